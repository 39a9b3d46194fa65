"""Switches of newer families, which no preset has: fields over those of the preset "modern"."""

ROTARY_LOCAL = {"layer_pattern": "LG", "window": 7, "rope_theta_local": 100.0}

SWITCHES = {
    "query and key norms of each head": {"qk_norm": "head"},
    "query and key norms of all heads": {"qk_norm": "all", "norm_placement": "output"},
    "a window in all layers": {"layer_pattern": "L", "window": 5},
    "a window, and angles of its own": ROTARY_LOCAL,
    "no rotation in one layer": {"layer_pattern": "GN"},
    "norms before and behind": {"norm_placement": "both"},
    "norms behind, with a shift": {"norm_placement": "output", "norm": "layer", "use_bias": True},
    "a bound of scores": {"attention_softcap": 2.0},
    "a bound of logits": {"logits_softcap": 3.0},
    "a gate of gelu": {"activation": "geglu"},
    "a gate of gelu_tanh": {"activation": "geglu_tanh", "embedding_scale": 5.656854249492381},
    "relu squared": {"activation": "relu2"},
    "a window without rotation": {"positions": "learned", "layer_pattern": "GL", "window": 6},
    "Gemma": {
        **ROTARY_LOCAL,
        "qk_norm": "head",
        "norm_placement": "both",
        "activation": "geglu_tanh",
        "embedding_scale": 4.0,
        "attention_softcap": 4.0,
        "logits_softcap": 8.0,
    },
}
