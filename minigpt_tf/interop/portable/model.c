/* A GPT in one file of C: it reads model.bin, which `minigpt export --format c` has written beside it.

       gcc -O3 -march=native model.c -lm -o model          (-fopenmp uses all cores)
       ./model model.bin "who is ..."

   From top to bottom: the file, the layers of a transformer, the model, tokens, the choice of a token,
   and the loop that writes. Shapes are named as in the papers: T positions, D width of the model,
   N query heads and K key/value heads of width H, F width of the feed-forward layer, V tokens. */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void fail(const char *what, const char *detail) {
    fprintf(stderr, "model: %s%s\n", what, detail);
    exit(2);
}

static void *room(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) fail("there is not enough memory", "");
    return memory;
}

/* ------------------------------------------------------------------------------------ the file

   "MGPT1\n", then lines of text "name value" up to an empty line, then arrays. A line
   "array NAME TYPE ROWS COLUMNS OFFSET" says where one lies, counted from the end of the header:
   f32, i32, u8 row by row; q8 is int8 in blocks of 32, whose factors are the array NAME/factors. */

enum { BLOCK = 32 };

typedef struct {
    int rows, columns, quantized;
    union { /* nothing where the file has no such array */
        const float *values;
        const int8_t *bytes; /* rows of whole blocks */
        const int32_t *ints;
        const char *text;
    };
    const float *factors; /* of a quantized matrix, one for each block */
} Array;

static const char *header, *arrays;
static size_t arrays_size;

static const char *setting(const char *name) { /* what follows the name in its line */
    size_t length = strlen(name);
    for (const char *line = header; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!strncmp(line, name, length) && line[length] == ' ') return line + length + 1;
    }
    return NULL;
}

static double number(const char *name) {
    if (!setting(name)) fail("model.bin lacks ", name);
    return atof(setting(name));
}

static int is(const char *name, const char *value) { /* whether a setting has that value */
    const char *text = setting(name);
    return text && !strncmp(text, value, strlen(value)) && text[strlen(value)] == '\n';
}

static Array array(const char *prefix, const char *name, const char *end) { /* together they are its name */
    char line[300], type[8];
    unsigned long long offset, width;
    Array found = {0};
    snprintf(line, sizeof line, "array %s%s%s", prefix, name, end);
    const char *text = setting(line);
    if (!text) return found;
    if (sscanf(text, "%7s %d %d %llu", type, &found.rows, &found.columns, &offset) != 4) fail("damaged: ", line);
    found.quantized = !strcmp(type, "q8");
    width = found.quantized ? (found.columns + BLOCK - 1ull) / BLOCK * BLOCK : found.columns * (strcmp(type, "u8") ? 4ull : 1);
    if (found.rows < 0 || found.columns < 0 || offset > arrays_size || found.rows * width > arrays_size - offset) fail("model.bin is cut off: ", line);
    found.text = arrays + offset;
    if (found.quantized) found.factors = array(line + strlen("array "), "/factors", "").values;
    return found;
}

static void open_model(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) fail("cannot open ", path);
    size_t size = ftell(file);
    char *content = room(size + 65, 1);
    content += 64 - (uintptr_t)content % 64; /* arrays lie at multiples of 64, in memory too */
    rewind(file);
    if (fread(content, 1, size, file) != size) fail("cannot read ", path);
    fclose(file);
    char *end = strstr(content, "\n\n");
    if (strncmp(content, "MGPT1\n", 6) || !end) fail(path, ": is not what minigpt export --format c writes");
    size_t start = (end + 2 - content + 63) / 64 * 64;
    end[1] = 0;
    header = content;
    arrays = content + start;
    arrays_size = start < size ? size - start : 0;
}

/* ------------------------------------------------------------------------------------ layers */

static float dot(const float *a, const float *b, int n) { /* 32 sums side by side fill vector registers */
    float sums[32] = {0}, sum = 0;
    int i = 0;
    for (; i + 32 <= n; i += 32)
        for (int j = 0; j < 32; j++) sums[j] += a[i + j] * b[i + j];
    for (int j = 0; j < 32; j++) sum += sums[j];
    for (; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static float dot_q8(const float *x, const int8_t *q, const float *factors, int n) { /* x fills whole blocks */
    float sums[BLOCK] = {0}, sum = 0;
    for (int i = 0; i < n; i += BLOCK)
        for (int j = 0; j < BLOCK; j++) sums[j] += factors[i / BLOCK] * (x[i + j] * q[i + j]);
    for (int j = 0; j < BLOCK; j++) sum += sums[j];
    return sum;
}

typedef struct { Array kernel, bias; } Dense;

static void multiply(float *out, const Dense *dense, const float *x) { /* out = kernel x + bias */
    const Array *m = &dense->kernel;
    int padded = (m->columns + BLOCK - 1) / BLOCK * BLOCK;
#pragma omp parallel for
    for (int row = 0; row < m->rows; row++) {
        float sum = m->quantized ? dot_q8(x, m->bytes + (size_t)row * padded, m->factors + (size_t)row * (padded / BLOCK), m->columns)
                                 : dot(m->values + (size_t)row * m->columns, x, m->columns);
        out[row] = sum + (dense->bias.values ? dense->bias.values[row] : 0);
    }
}

static void row_of(float *out, const Array *m, int row) { /* a row of a matrix, such as a token's embedding */
    int padded = (m->columns + BLOCK - 1) / BLOCK * BLOCK;
    for (int i = 0; i < m->columns; i++)
        out[i] = m->quantized ? m->bytes[(size_t)row * padded + i] * m->factors[(size_t)row * (padded / BLOCK) + i / BLOCK]
                              : m->values[(size_t)row * m->columns + i];
}

typedef struct { Array scale, shift; } Norm;

/* Layer normalization (Ba et al., 2016), or without its mean the RMS norm (Zhang and Sennrich, 2019). */
static void normalize(float *out, const float *x, const Norm *norm, int n, int centered, float epsilon) {
    float mean = 0, variance = 0;
    for (int i = 0; centered && i < n; i++) mean += x[i] / n;
    for (int i = 0; i < n; i++) variance += (x[i] - mean) * (x[i] - mean) / n;
    float factor = 1 / sqrtf(variance + epsilon);
    for (int i = 0; i < n; i++)
        out[i] = (x[i] - mean) * factor * norm->scale.values[i] + (norm->shift.values ? norm->shift.values[i] : 0);
}

static void softmax(float *x, int n) {
    float most = x[0], total = 0;
    for (int i = 1; i < n; i++) most = x[i] > most ? x[i] : most;
    for (int i = 0; i < n; i++) total += x[i] = expf(x[i] - most);
    for (int i = 0; i < n; i++) x[i] /= total;
}

static float activate(char kind, float x) {
    switch (kind) {
    case 's': return x / (1 + expf(-x));                                                     /* silu */
    case 'g': return 0.5f * x * (1 + erff(x * 0.70710678f));                                 /* gelu */
    case 't': return 0.5f * x * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));    /* gelu_tanh */
    case '2': return x > 0 ? x * x : 0;                                                      /* relu2 */
    default: return x > 0 ? x : 0;                                                           /* relu */
    }
}

/* A head's first half is rotated with its second half, by an angle for each pair (Su et al., 2021). */
static void rotate(float *head, int H, int position, const float *frequencies) {
    for (int i = 0; i < H / 2; i++) {
        double angle = position * (double)frequencies[2 * i] + position * (double)frequencies[2 * i + 1];
        float c = (float)cos(angle), s = (float)sin(angle), a = head[i], b = head[i + H / 2];
        head[i] = a * c - b * s;
        head[i + H / 2] = b * c + a * s;
    }
}

/* ------------------------------------------------------------------------------------ the model */

typedef struct {
    char kind; /* G sees all tokens, L a window, N all without rotation */
    Norm attention_norm, attention_output_norm, feed_forward_norm, feed_forward_output_norm;
    Dense query, key, value, output, gate, up, down;
    Norm query_norm, key_norm;
    float *keys, *values; /* of all positions so far: (T, K H) */
} Layer;

static struct {
    int V, T, D, layers, N, K, H, F, window, centered, gated, after;
    char activation;
    float epsilon, embedding_scale, attention_softcap, logits_softcap;
    Array embedding, positions, frequencies, local_frequencies;
    Dense head;
    Norm final_norm;
    Layer *layer;
    float *x, *normal, *q, *mixed, *update, *hidden, *gate, *scores, *logits;
} model;

static Array starts, texts, merges, classes, characters, lower, order, special, byte_ids, separators; /* see tokens */

static Norm norm_of(const char *prefix, const char *name) {
    Norm norm = {array(prefix, name, "/gamma"), array(prefix, name, "/beta")};
    if (!norm.scale.values) norm.scale = array(prefix, name, "/scale");
    return norm;
}

static Dense dense_of(const char *prefix, const char *name) {
    return (Dense){array(prefix, name, "/kernel"), array(prefix, name, "/bias")};
}

static void load_layer(Layer *layer, int number, char kind) {
    char block[32], attention[64];
    snprintf(block, sizeof block, "block_%d/", number);
    snprintf(attention, sizeof attention, "%sattention/", block);
    size_t kept = (size_t)model.T * model.K * model.H;
    *layer = (Layer){
        kind, norm_of(block, "attention_norm"), norm_of(block, "attention_output_norm"),
        norm_of(block, "feed_forward_norm"), norm_of(block, "feed_forward_output_norm"),
        dense_of(attention, "query"), dense_of(attention, "key"), dense_of(attention, "value"), dense_of(attention, "attention_output"),
        dense_of(block, "feed_forward_gate"), dense_of(block, "feed_forward_up"), dense_of(block, "feed_forward_down"),
        norm_of(attention, "query_norm"), norm_of(attention, "key_norm"), room(kept, sizeof(float)), room(kept, sizeof(float))};
}

static void load_model(const char *path) {
    open_model(path);
    model.V = number("vocab_size"), model.T = number("context_length"), model.D = number("embed_dim");
    model.layers = number("num_layers"), model.N = number("num_heads"), model.K = number("num_kv_heads");
    model.H = number("head_dim"), model.F = number("ff_dim"), model.window = number("window");
    model.centered = is("norm", "layer"), model.epsilon = number("norm_epsilon");
    model.after = is("norm_placement", "after"), model.gated = number("gated");
    model.activation = is("activation", "silu") ? 's' : is("activation", "gelu") ? 'g' : is("activation", "gelu_tanh") ? 't' : is("activation", "relu2") ? '2' : 'r';
    model.embedding_scale = number("embedding_scale");
    model.attention_softcap = number("attention_softcap"), model.logits_softcap = number("logits_softcap");
    model.embedding = array("token_embedding/", "embeddings", "");
    model.positions = array("position_encoding/", "embeddings", "");
    model.frequencies = array("", "rotary", ""), model.local_frequencies = array("", "rotary_local", "");
    model.final_norm = norm_of("", "final_norm");
    model.head = dense_of("", "logits");
    if (!model.head.kernel.values) model.head.kernel = model.embedding; /* tied */
    starts = array("", "token_starts", ""), texts = array("", "token_texts", ""), merges = array("", "merges", "");
    classes = array("", "classes", ""), characters = array("", "characters", ""), lower = array("", "lower", "");
    order = array("", "order", ""), special = array("", "special", ""), byte_ids = array("", "byte_ids", "");
    separators = array("", "separators", "");
    model.layer = room(model.layers, sizeof(Layer));
    for (int i = 0; i < model.layers; i++) load_layer(&model.layer[i], i, setting("layer_kinds")[i]);
    int wide = model.N * model.H > model.D ? model.N * model.H : model.D;
    float **rooms[] = {&model.x, &model.normal, &model.q, &model.mixed, &model.update, &model.hidden, &model.gate, &model.scores, &model.logits};
    int sizes[] = {wide, wide, wide, wide, wide, model.F, model.F, model.T, model.V};
    for (int i = 0; i < 9; i++) *rooms[i] = room(sizes[i] + BLOCK, sizeof(float));
}

static void norm_heads(float *heads, const Norm *norm, int count) { /* of queries and keys: Qwen3, OLMo 2 */
    int width = norm->scale.columns; /* of one head, or of all */
    for (int i = 0; width && i < count * model.H; i += width) normalize(heads + i, heads + i, norm, width, 0, model.epsilon);
}

/* softmax(q k / sqrt(H)) v, over the positions that a token sees (Vaswani et al., 2017). */
static void attend(float *out, Layer *layer, const float *x, int position) {
    int N = model.N, K = model.K, H = model.H, first = 0;
    float *k = layer->keys + (size_t)position * K * H, *v = layer->values + (size_t)position * K * H;
    multiply(model.q, &layer->query, x);
    multiply(k, &layer->key, x);
    multiply(v, &layer->value, x);
    norm_heads(model.q, &layer->query_norm, N);
    norm_heads(k, &layer->key_norm, K);
    Array frequencies = layer->kind == 'L' && model.local_frequencies.values ? model.local_frequencies : model.frequencies;
    if (frequencies.values && layer->kind != 'N') {
        for (int head = 0; head < N; head++) rotate(model.q + head * H, H, position, frequencies.values);
        for (int head = 0; head < K; head++) rotate(k + head * H, H, position, frequencies.values);
    }
    if (layer->kind == 'L' && position >= model.window) first = position + 1 - model.window;
    for (int head = 0; head < N; head++) {
        int shared = head / (N / K) * H, seen = position + 1 - first; /* neighbors share keys and values */
        float *mixed = model.mixed + head * H, cap = model.attention_softcap;
        for (int t = 0; t < seen; t++) {
            float score = dot(model.q + head * H, layer->keys + (size_t)(first + t) * K * H + shared, H) / sqrtf((float)H);
            model.scores[t] = cap > 0 ? cap * tanhf(score / cap) : score;
        }
        softmax(model.scores, seen);
        memset(mixed, 0, H * sizeof(float));
        for (int t = 0; t < seen; t++)
            for (int i = 0; i < H; i++) mixed[i] += model.scores[t] * layer->values[(size_t)(first + t) * K * H + shared + i];
    }
    multiply(out, &layer->output, model.mixed);
}

static void feed_forward(float *out, Layer *layer, const float *x) {
    multiply(model.hidden, &layer->up, x);
    if (model.gated) multiply(model.gate, &layer->gate, x);
    for (int i = 0; i < model.F; i++)
        model.hidden[i] = model.gated ? model.hidden[i] * activate(model.activation, model.gate[i]) : activate(model.activation, model.hidden[i]);
    multiply(out, &layer->down, model.hidden);
}

/* x + sublayer(x), with the norms where the model has them. */
static void sublayer(Layer *layer, int position, int attention) {
    Norm *norm = attention ? &layer->attention_norm : &layer->feed_forward_norm;
    Norm *behind = attention ? &layer->attention_output_norm : &layer->feed_forward_output_norm;
    int before = norm->scale.values && !model.after; /* else behind the sum, or nowhere */
    if (before) normalize(model.normal, model.x, norm, model.D, model.centered, model.epsilon);
    const float *x = before ? model.normal : model.x;
    if (attention) attend(model.update, layer, x, position);
    else feed_forward(model.update, layer, x);
    if (behind->scale.values) normalize(model.update, model.update, behind, model.D, model.centered, model.epsilon);
    for (int i = 0; i < model.D; i++) model.x[i] += model.update[i];
    if (model.after) normalize(model.x, model.x, norm, model.D, model.centered, model.epsilon);
}

/* The token at a position -> logits of the token that follows, if they are wanted. */
static float *forward(int token, int position, int wanted) {
    row_of(model.x, &model.embedding, token);
    for (int i = 0; i < model.D; i++) {
        model.x[i] *= model.embedding_scale;
        if (model.positions.values) model.x[i] += model.positions.values[(size_t)position * model.D + i];
    }
    for (int i = 0; i < 2 * model.layers; i++) sublayer(&model.layer[i / 2], position, i % 2 == 0);
    if (!wanted) return NULL;
    if (model.final_norm.scale.values) normalize(model.x, model.x, &model.final_norm, model.D, model.centered, model.epsilon);
    multiply(model.logits, &model.head, model.x);
    for (int i = 0; i < model.V && model.logits_softcap > 0; i++) model.logits[i] = model.logits_softcap * tanhf(model.logits[i] / model.logits_softcap);
    return model.logits;
}

/* ------------------------------------------------------------------------------------ tokens

   A text is cut into words; a word is a token (word, char), or begins as its bytes or characters,
   of which the pair with the lowest rank is merged until no pair has a rank (byte-pair encoding). */

typedef struct { int *ids, count; } Tokens;

static const char *text_of(int id) { return texts.text + starts.ints[id]; }
static int length_of(int id) { return starts.ints[id + 1] - starts.ints[id]; }

/* The row of a sorted table whose first columns are these keys, or NULL. */
static const int32_t *find(Array table, int32_t key, int32_t second, int keys) {
    for (int low = 0, high = table.rows; low < high;) {
        int middle = (low + high) / 2;
        const int32_t *row = table.ints + (size_t)middle * table.columns;
        if (row[0] == key && (keys == 1 || row[1] == second)) return row;
        if (row[0] < key || (row[0] == key && row[1] < second)) low = middle + 1;
        else high = middle;
    }
    return NULL;
}

static int find_text(const char *text, int length) { /* the token of a text, or -1 */
    for (int low = 0, high = order.rows; low < high;) {
        int middle = (low + high) / 2, id = order.ints[middle];
        int sign = memcmp(text_of(id), text, length_of(id) < length ? length_of(id) : length);
        if (!sign) sign = length_of(id) - length;
        if (!sign) return id;
        if (sign < 0) low = middle + 1;
        else high = middle;
    }
    return -1;
}

static int decode_utf8(const char *text, const char *end, int *length) { /* the first character */
    const uint8_t *s = (const uint8_t *)text;
    int more = s[0] >= 0xf0 ? 3 : s[0] >= 0xe0 ? 2 : s[0] >= 0xc0 ? 1 : 0, code = s[0] & (more ? 0x3f >> more : 0x7f);
    if (more > end - text - 1) more = (int)(end - text - 1);
    for (int i = 1; i <= more; i++) code = code << 6 | (s[i] & 0x3f);
    *length = more + 1;
    return code;
}

static int encode_utf8(int code, char *out) {
    int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    for (int i = more; i; i--, code >>= 6) out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)(more ? (0xff00 >> (more + 1) & 0xff) | code : code);
    return more + 1;
}

static int class_of(int code) { /* 'L' letter, 'N' number, 'S' space, or 0: ranges (first, last, class) */
    for (int low = 0, high = classes.rows; low < high;) {
        int middle = (low + high) / 2;
        const int32_t *row = classes.ints + 3 * middle;
        if (code > row[1]) low = middle + 1;
        else if (code < row[0]) high = middle;
        else return row[2];
    }
    return 0;
}

static void merge(Tokens *out, int first) { /* of the ids from `first` on */
    for (;;) {
        const int32_t *best = NULL;
        int place = 0;
        for (int i = first; i + 1 < out->count; i++) {
            const int32_t *row = find(merges, out->ids[i], out->ids[i + 1], 2);
            if (row && (!best || row[2] < best[2])) best = row, place = i;
        }
        if (!best) return;
        out->ids[place] = best[3], out->count--;
        memmove(out->ids + place + 1, out->ids + place + 2, (out->count - place - 1) * sizeof(int));
    }
}

static void add_word(Tokens *out, const char *text, const char *end) { /* of byte-level vocabularies */
    int first = out->count, whole = number("whole_words") ? find_text(text, (int)(end - text)) : -1;
    if (whole >= 0) out->ids[out->count++] = whole, text = end;
    for (; text < end; text++) out->ids[out->count++] = byte_ids.ints[(uint8_t)*text];
    merge(out, first);
}

typedef struct { int code, kind; const char *at; } Letter;

/* How many characters the next word has: the pattern of GPT-2, or the later one of tiktoken. */
static int word_length(const Letter *c, int n) {
    static const char *ends[] = {"s", "t", "re", "ve", "m", "ll", "d"};
    int tiktoken = is("cut", "tiktoken"), digits = number("digits"), i;
    for (int e = 0; e < 7 && c[0].code == '\''; e++) { /* 's, 't, 're, ... */
        int length = (int)strlen(ends[e]), same = n > length;
        for (i = 0; same && i < length; i++) same = c[i + 1].code == ends[e][i] || (tiktoken && (c[i + 1].code | 32) == ends[e][i]);
        if (same) return length + 1;
    }
    int space = c[0].code == ' ', line = c[0].code == '\n' || c[0].code == '\r';
    int skip = tiktoken ? !line && c[0].kind != 'L' && c[0].kind != 'N' : space; /* what may stand before letters */
    if (n > skip && c[skip].kind == 'L') {
        for (i = skip; i < n && c[i].kind == 'L';) i++;
        return i;
    }
    int before = space && !tiktoken;
    if (n > before && c[before].kind == 'N') {
        for (i = before; i < n && c[i].kind == 'N' && (!digits || i - before < digits);) i++;
        return i;
    }
    if (n > space && !c[space].kind) { /* signs */
        for (i = space; i < n && !c[i].kind;) i++;
        while (tiktoken && i < n && (c[i].code == '\n' || c[i].code == '\r')) i++;
        return i;
    }
    int spaces = 0, last = 0; /* the white space here, and behind its last line end */
    for (; spaces < n && c[spaces].kind == 'S'; spaces++)
        if (c[spaces].code == '\n' || c[spaces].code == '\r') last = spaces + 1;
    if (tiktoken && last) return last;
    return spaces < n && spaces > 1 ? spaces - 1 : spaces; /* the last space belongs to the next word */
}

static void encode_byte_level(Tokens *out, const char *text, const char *end) {
    Letter *letters = room(end - text + 1, sizeof(Letter));
    int n = 0, length, alone = number("digits_alone");
    for (; text < end; text += length, n++) {
        letters[n].at = text;
        letters[n].code = decode_utf8(text, end, &length);
        letters[n].kind = class_of(letters[n].code);
    }
    letters[n].at = end;
    for (int i = 0; i < n;) {
        int limit = n; /* a digit alone cuts the text before it is cut into words */
        for (int j = i; alone && j < n && limit == n; j++)
            if (letters[j].kind == 'N') limit = j > i ? j : i + 1;
        int size = word_length(letters + i, limit - i);
        add_word(out, letters[i].at, letters[i + size].at);
        i += size;
    }
    free(letters);
}

static void encode_characters(Tokens *out, const char *text, const char *end, int pieces) {
    int first = out->count, length = 0, begin = pieces && number("space_prefix"); /* a text begins with a space */
    for (; begin || text < end; text += length, begin = 0) {
        int code = begin ? ' ' : decode_utf8(text, end, &length);
        if (pieces && code == ' ') code = 0x2581; /* SentencePiece writes spaces as a lower block */
        const int32_t *row = find(lower, code, 0, 1);
        row = find(characters, row ? row[1] : code, 0, 1);
        if (row) out->ids[out->count++] = row[1];
        for (int i = 0; pieces && !row && i < length; i++) out->ids[out->count++] = byte_ids.ints[(uint8_t)text[i]];
        if (!pieces && !row && number("unknown_id") >= 0) out->ids[out->count++] = number("unknown_id");
    }
    if (pieces) merge(out, first);
}

static void encode_words(Tokens *out, const char *text, const char *end) { /* Keras's Tokenizer */
    char *word = room(2 * (end - text) + 5, 1);
    int size = 0, length = 0;
    for (;; text += length) {
        int code = text < end ? decode_utf8(text, end, &length) : 0;
        const int32_t *row = find(lower, code, 0, 1);
        if (row) code = row[1];
        if (text < end && !find(separators, code, 0, 1)) {
            size += encode_utf8(code, word + size);
            continue;
        }
        int known = size ? find_text(word, size) : -1, id = size && known < 0 ? number("unknown_id") : known;
        if (id >= 0) out->ids[out->count++] = id;
        size = 0;
        if (text >= end) break;
    }
    free(word);
}

static void encode_plain(Tokens *out, const char *text, const char *end) {
    if (text == end) return;
    if (is("tokenizer", "word")) encode_words(out, text, end);
    else if (is("tokenizer", "char")) encode_characters(out, text, end, 0);
    else if (is("tokenizer", "pieces")) encode_characters(out, text, end, 1);
    else encode_byte_level(out, text, end);
}

/* A text as ids. A token that stands whole in texts, such as <|im_end|>, is one, unless it is a message. */
static void encode(Tokens *out, const char *text, int message) {
    const char *end = text + strlen(text), *from = text;
    for (; text < end && !message; text++)
        for (int i = 0; i < special.rows; i++) { /* the longest first */
            int id = special.ints[i], length = length_of(id);
            if (length > end - text || memcmp(text_of(id), text, length)) continue;
            encode_plain(out, from, text);
            out->ids[out->count++] = id;
            from = text + length, text = from - 1;
            break;
        }
    encode_plain(out, from, end);
}

static void add_list(Tokens *out, const char *name) { /* a list of ids in the file */
    Array list = array("", name, "");
    for (int i = 0; i < list.rows; i++) out->ids[out->count++] = list.ints[i];
}

/* ------------------------------------------------------------------------------------ the choice */

static uint64_t state = 1337; /* of xorshift (Marsaglia, 2003), from which chances are drawn */

static int choose(float *logits, double temperature, double top_p) {
    int best = 0, count = model.V;
    Array never = array("", "suppressed", "");
    for (int i = 0; i < never.rows; i++) logits[never.ints[i]] = -INFINITY;
    for (int i = 1; i < count; i++) best = logits[i] > logits[best] ? i : best;
    if (temperature <= 0) return best;
    for (int i = 0; i < count; i++) logits[i] /= (float)temperature;
    softmax(logits, count);
    /* top-p: the most likely tokens that together have this probability (Holtzman et al., 2020) */
    double low = 0, high = 1;
    for (int step = 0; step < 30 && top_p < 1; step++) { /* the least probability that one must have */
        double middle = (low + high) / 2, sum = 0;
        for (int i = 0; i < count; i++) sum += logits[i] >= middle ? logits[i] : 0;
        if (sum >= top_p) low = middle;
        else high = middle;
    }
    double total = 0;
    for (int i = 0; i < count; i++) total += logits[i] >= low ? logits[i] : 0;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    double left = total * (double)(state >> 11) / 9007199254740992.0;
    for (int i = 0; i < count; i++)
        if (logits[i] >= low && (left -= logits[i]) < 0) return i;
    return best;
}

/* ------------------------------------------------------------------------------------ writing */

int main(int count, char **words) {
    const char *file = NULL, *prompt = NULL;
    int tokens = 100, chat = 0, ids_only = 0, written = 0, ended = 0;
    double temperature = 0, top_p = 0.95;
    for (int i = 1; i < count; i++) {
        const char *word = words[i], *value = i + 1 < count ? words[i + 1] : "";
        if (!strcmp(word, "--chat")) chat = 1;
        else if (!strcmp(word, "--ids")) ids_only = 1;
        else if (!strcmp(word, "-n")) tokens = atoi(value) > 0 ? atoi(value) : (fail("-n needs a number of tokens", ""), 0), i++;
        else if (!strcmp(word, "-t")) temperature = atof(value), i++;
        else if (!strcmp(word, "-p")) top_p = atof(value), i++;
        else if (!strcmp(word, "-s")) state = 2 * strtoull(value, NULL, 10) + 1, i++;
        else if (!file) file = word;
        else if (!prompt) prompt = word;
        else fail("what is ", word);
    }
    if (!file || !prompt) fail("model model.bin \"TEXT\" [--chat] [-n tokens] [-t temperature] [-p top_p] [-s seed] [--ids]", "");
    load_model(file);
    if (chat && !array("", "chat_before", "").rows) fail("this model has no chat template", "");
    static Tokens text; /* the prompt's, and what follows */
    text.ids = room(strlen(prompt) + 3 * (size_t)model.T + tokens + 64, sizeof(int));
    add_list(&text, chat ? "chat_before" : "prefix_ids");
    int given = text.count, first = 0, seen = 0; /* the model sees the ids from `first` on */
    encode(&text, prompt, chat);
    if (text.count == given && !chat) text.count = 0, add_list(&text, "start_ids");
    if (chat) add_list(&text, "chat_after");
    if (text.count > model.T) fail("the text is longer than the model's context", "");
    Array ends = array("", "end_ids", "");
    clock_t began = clock();
    for (float *logits = NULL; written < tokens; written++) {
        if (seen - first == model.T) seen = first = text.count - (model.T > 1 ? model.T / 2 : 1); /* the newer half is a prompt */
        for (; seen < text.count; seen++) logits = forward(text.ids[seen], seen - first, seen + 1 == text.count);
        if (!written) began = clock();
        int id = choose(logits, temperature, top_p);
        for (int i = 0; i < ends.rows; i++) ended |= ends.ints[i] == id;
        if (ended) break;
        text.ids[text.count++] = id;
        if (ids_only) printf("%d ", id);
        else printf("%s%.*s", written && is("tokenizer", "word") ? " " : "", length_of(id), text_of(id));
        fflush(stdout);
    }
    printf("\n");
    fprintf(stderr, "%d tokens, %.1f a second of processor time\n", written, written * (double)CLOCKS_PER_SEC / (clock() - began + 1));
    return 0;
}
