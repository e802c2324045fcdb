"""Words are weighed by hand in any prompt, and the heat knows them by themselves."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from pipelines.weighing import weigh
from tests.browser.house import SMALL, Visit


def caret(page: Page, text: str, *, chosen: bool = False) -> None:
    """Put the caret into some words of the prompt, or choose them."""
    page.locator("#field-prompt textarea").evaluate(
        """(field, [text, chosen]) => {
            const at = field.value.indexOf(text);
            field.focus();
            field.setSelectionRange(chosen ? at : at + 1, chosen ? at + text.length : at + 1);
        }""",
        [text, chosen],
    )


def test_ctrl_and_an_arrow_weigh_the_word_at_the_caret(artist: Visit) -> None:
    artist.enter()
    page = artist.page
    prompt = artist.field("prompt")
    artist.type_in("prompt", "a grey lighthouse, impressionism")
    caret(page, "lighthouse")
    page.keyboard.press("Control+ArrowUp")
    page.keyboard.press("Control+ArrowUp")
    expect(prompt).to_have_value("a grey (lighthouse:1.2), impressionism")
    page.keyboard.press("Control+ArrowDown")
    expect(prompt).to_have_value("a grey (lighthouse:1.1), impressionism")
    page.keyboard.press("Control+ArrowDown")
    expect(prompt).to_have_value("a grey lighthouse, impressionism")
    page.keyboard.press("Control+ArrowDown")
    expect(prompt).to_have_value("a grey (lighthouse:0.9), impressionism")
    page.keyboard.press("Control+z")
    expect(prompt).to_have_value("a grey lighthouse, impressionism")
    caret(page, "a grey lighthouse", chosen=True)
    for _ in range(25):
        page.keyboard.press("Control+ArrowUp")
    expect(prompt).to_have_value("(a grey lighthouse:3), impressionism")
    caret(page, ", imp")
    page.keyboard.press("Control+ArrowUp")
    expect(prompt).to_have_value("(a grey lighthouse:3), impressionism")  # between words there is none


HINT = '"Ctrl + ↑ ↓ weighs a word"'


def test_every_prompt_tells_how_its_words_are_weighed_and_lets_them(artist: Visit) -> None:
    artist.enter()
    page = artist.page
    for tab, field in (
        ("prompt-to-image", "field-prompt"),
        ("style-blending", "mix-prompt"),
        ("inpainting", "fill-prompt"),
    ):
        page.locator(f"#{tab}-button").click()
        prompt = page.locator(f"textarea#{field}, #{field} textarea")
        told = """({labels: [label]}) =>
            getComputedStyle(label.querySelector("span") ?? label, "::after").content"""
        prompt.fill("")
        assert prompt.evaluate(told) != HINT  # there is no word yet
        prompt.press_sequentially("boat")
        assert prompt.evaluate(told) == HINT
        prompt.press("Control+ArrowUp")
        expect(prompt).to_have_value("(boat:1.1)")


PROMPTS = ("a (b:1.4) (c d: .5) (e:9)", "((x:2)) (y:) :z (w:3) (v:3.0001)", "(7:13) (q:0)")


def test_the_page_reads_the_weights_that_the_model_reads(artist: Visit) -> None:
    artist.enter()
    found: list[list[tuple[int, int]]] = artist.page.evaluate(
        "async (prompts) => prompts.map((await import('/atelier/js/weighing.js')).weightsIn)", PROMPTS
    )
    for prompt, weights in zip(PROMPTS, found, strict=True):
        read = weigh(prompt).places
        places = [at for start, stop in weights for at in range(start, stop)]
        assert not set(places) & set(read)
        # The model reads what is left, but for a bracket before the words of each weight.
        gone = [at for at in range(len(prompt)) if at not in read and at not in places]
        assert [prompt[at] for at in gone] == ["("] * len(weights)


def test_a_weighed_prompt_is_painted_and_its_words_can_be_asked_about(artist: Visit) -> None:
    artist.enter()
    artist.paint("a (cat:1.5), baroque", num_inference_steps="2", **SMALL)
    artist.wait_until_finished()
    page = artist.page
    page.locator("#stage").get_by_role("button", name="Open timeline").click()
    words = page.locator(".timeline-prompt .word")
    expect(words).to_have_text(["a", "cat", "baroque"])
    words.nth(1).click()
    expect(page.get_by_text("Bright where the model looked for “cat” on the whole way.")).to_be_visible()
    expect(page.locator(".heat-problem")).to_have_count(0)


def test_a_weight_that_is_none_is_told_under_the_picture(artist: Visit) -> None:
    artist.enter()
    artist.paint("a cat, (baroque:12)", num_inference_steps="1", seed="7", **SMALL)
    artist.wait_until_finished()
    told = "The model reads (baroque:12) as written: a word weighs from 0 to 3, as in (cat:1.4)."
    expect(artist.page.get_by_text(told)).to_be_visible()
