"""HTML -> the text that a reader of the page sees."""

import html.parser


class _TextOfHTML(html.parser.HTMLParser):
    """Collects what a reader of the page would see; a block element ends a line."""

    HIDDEN = {"script", "style", "template", "noscript"}
    BLOCKS = {"p", "div", "br", "li", "tr", "table", "section", "article", "title", "blockquote"}
    BLOCKS |= {"main", "aside", "nav", "hr", "figcaption", "header", "footer", "pre"}
    BLOCKS |= {"h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "dd", "dt"}
    CELLS = {"td", "th", "option"}

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.hidden += tag in self.HIDDEN
        if tag in self.BLOCKS:
            self.texts.append("\n")
        elif tag in self.CELLS:
            self.texts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self.hidden = max(0, self.hidden - (tag in self.HIDDEN))
        if tag in self.BLOCKS:
            self.texts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.texts.append(" ".join(data.split("\n")))


def text_of_html(page: str) -> str:
    """The text of a page, as a reader of it would see it.

    Args:
        page: HTML.

    Returns:
        The text, with a line for each block that is not empty.

    Example:
        >>> from minigpt_tf.files.html_pages import text_of_html
        >>> text_of_html("<h1>Title</h1><p>One &amp; two<script>x()</script></p>").split("\\n")
        ['Title', 'One & two']
    """
    parser = _TextOfHTML()
    parser.feed(page)
    parser.close()
    lines = (" ".join(line.split()) for line in "".join(parser.texts).split("\n"))
    return "\n".join(line for line in lines if line)
