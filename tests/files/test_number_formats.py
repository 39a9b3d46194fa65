"""Numbers in the formats of spreadsheets. Expected: what Excel shows, written down by hand."""

import pytest

from minigpt_tf.files.number_formats import BUILT_IN, format_text, format_value

ACCOUNTING = '_("$"* #,##0.00_);_("$"* \\(#,##0.00\\);_("$"* "-"??_);_(@_)'
EURO = '_-* #,##0.00 _€_-;-* #,##0.00 _€_-;_-* "-"?? _€_-;_-@_-'
DAY = 46082  # 1 March 2026, a Sunday

SHOWN = [
    (0.07, "0%", "7%"),
    (0.1234, "0.0%", "12.3%"),
    (-0.25, "0%", "-25%"),
    (42, "00000", "00042"),
    (5551234567, "(000) 000-0000", "(555) 123-4567"),
    (123456789, "000-00-0000", "123-45-6789"),
    (20260301, "0000-00-00", "2026-03-01"),
    (1234.5, "#,##0.00", "1,234.50"),
    (1234567, "#,##0", "1,234,567"),
    (1234567, '#,##0,"K"', "1,235K"),
    (1234567, '0.0,,"M"', "1.2M"),
    (2.5, "0", "3"),
    (1.005, "0.00", "1.01"),
    (-0.4, "0", "0"),
    (12, "0.##", "12."),
    (0.5, "#.##", ".5"),
    (-5, "0;(0)", "(5)"),
    (0, '0;-0;"zero"', "zero"),
    (1234.5, "[$€-407] #,##0.00", "€ 1,234.50"),
    (1234.5, "#,##0.00\\ [$€-1]", "1,234.50 €"),
    (1234.5, "[$£-809]#,##0", "£1,235"),
    (1234.5, ACCOUNTING, "$1,234.50"),
    (-1234.5, ACCOUNTING, "$(1,234.50)"),
    (-1234.5, EURO, "-1,234.50"),
    (5.25, "# ?/?", "5 1/4"),
    (0.5, "# ?/?", "1/2"),
    (2, "# ?/?", "2"),
    (1.3, "# ?/8", "1 2/8"),
    (45321, '[$-411]ggge"年"m"月"d"日"', "令和6年1月30日"),
    (32516, '[$-411]ggge"年"', "平成1年"),
    (32515, "[$-411]gge.m.d", "昭64.1.7"),
    (25569, "[$-411]gee.mm", "S45.01"),
    (45321, "ge", "2024"),
    (12345, "0.00E+00", "1.23E+04"),
    (0.00012, "0.00E+00", "1.20E-04"),
    (12345, "##0.0E+0", "12.3E+3"),
    (3, '0 "days"', "3 days"),
    (12.5, '0.00" kg"', "12.50 kg"),
    (50, '[Red][<10]"low";[>100]"high";0', "50"),
    (5, '[Red][<10]"low";[>100]"high";0', "low"),
    (1, '"yes";;"no"', "yes"),
    (0, '"yes";;"no"', "no"),
    (5, ";;;", ""),
    (0.1 + 0.2, "General", "0.3"),
    (4006381333931, "General", "4006381333931"),
    (1e-5, "General", "0.00001"),
    (3, "@", "3"),
    (DAY, "yyyy-mm-dd", "2026-03-01"),
    (DAY, "d.m.yy", "1.3.26"),
    (DAY, "[$-407]d. mmmm yyyy", "1. März 2026"),
    (DAY, "[$-40C]dddd d mmmm yyyy", "dimanche 1 mars 2026"),
    (DAY, "[$-409]d\\-mmm\\-yyyy;@", "1-Mar-2026"),
    (DAY, "dddd, mmmm d, yyyy", "Sunday, March 1, 2026"),
    (DAY, "[$-F800]dddd\\,\\ mmmm\\ dd\\,\\ yyyy", "Sunday, March 01, 2026"),
    (DAY + 0.75, "d/m/yy h:mm AM/PM", "1/3/26 6:00 PM"),
    (DAY + 0.75, "dd.mm.yyyy hh:mm:ss", "01.03.2026 18:00:00"),
    (0.5, 'h"h"mm"m"', "12h00m"),
    (1.5104166667, "[h]:mm", "36:15"),
    (1.5, "[mm]:ss", "2160:00"),
    (1.5, "[ss]", "129600"),
    (1.25 / 86400, "mm:ss.00", "00:01.25"),
    (59, "yyyy-mm-dd", "1900-02-28"),
    (60, "yyyy-mm-dd", "1900-02-29"),  # a day that only Excel knows
    (61, "yyyy-mm-dd", "1900-03-01"),
    (-30701, "yyyy-mm-dd", "1815-12-10"),
]


@pytest.mark.parametrize(("value", "code", "shown"), SHOWN)
def test_a_number_is_what_a_person_sees(value, code, shown):
    assert format_value(value, code) == shown


def test_days_may_count_from_1904():
    assert format_value(DAY - 1462, "yyyy-mm-dd", from_1904=True) == "2026-03-01"


def test_dates_whose_order_each_computer_chooses_are_plain():
    assert format_value(DAY, BUILT_IN[14]) == "2026-03-01"


def test_texts_have_formats_too():
    assert format_text("042", "@") == format_text("042", "0.00") == "042"
    assert format_text("7", '0;0;0;"No. "@') == "No. 7"
    assert format_text("secret", ";;;") == ""


def test_any_code_gives_a_text():
    for code in ("", "[", '"', "\\", "0.", ".", "/", "E+", "[h", "#,,", "?/?/?", "[>]0", "[$", "_"):
        for value in (0, -1.5, 1e300, 1e-300, 2**53):
            assert isinstance(format_value(value, code), str)
