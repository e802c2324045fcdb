"""The style blending tab in a real browser: mix, draw, paint, keep, and come back after a restart."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from playwright.sync_api import Browser, Page, expect
from safetensors.torch import save_file

from pipelines.models.find import EMBEDDED, find_model
from tests.browser.conftest import check
from tests.browser.house import FOLLOWED, MODEL, ROOT, SMALL, Visit, open_house, visit
from tests.tiny import random_updates, save_ip_adapter

PROMPT = "river landscape with trees"


def enter_desk(artist: Visit, *, steps: int) -> Page:
    """Open the tab with a prompt, a small canvas and so many steps."""
    artist.enter()
    page = artist.page
    page.get_by_role("tab", name="Style blending").click()
    page.locator("#mix-prompt").fill(PROMPT)
    page.get_by_text("Size, seed and sampler").click()
    page.locator("#mix-num_inference_steps").fill(str(steps))
    for side, pixels in SMALL.items():
        page.locator(f"#mix-{side}").fill(pixels)
    return page


def timeline_address(artist: Visit) -> str:
    """Return the address of the timeline that was opened last."""
    return [url for url in artist.requests if re.search("/timelines/[0-9a-f]{32}$", url)][-1]


def touch(page: Page, style: str) -> None:
    page.get_by_role("region", name="Palette").get_by_role("button", name=style, exact=True).click()


def draw_falling_curve(page: Page) -> None:
    """Draw the picked style's curve with the mouse: all of it at first, nothing from the middle on."""
    box = page.locator(".overtime-panel").bounding_box()
    assert box is not None
    left, top, width, height = box["x"], box["y"], box["width"], box["height"]
    page.mouse.move(left + 1, top + 2)
    page.mouse.down()
    page.mouse.move(left + width / 2, top + height - 2, steps=6)
    page.mouse.move(left + width - 1, top + height - 2, steps=4)
    page.mouse.up()


def follow_a_picture(page: Page) -> None:
    page.get_by_label("A picture to follow").set_input_files(ROOT / "assets" / "styles" / "ukiyo-e.webp")
    expect(page.get_by_alt_text("A picture that is followed")).to_have_js_property("complete", True)
    page.get_by_label("How far the picture is followed").fill("0.3")


def steer(page: Page) -> None:
    desk = page.locator("#mixing")
    desk.get_by_role("button", name="Steer", exact=True).click()
    desk.get_by_label("How hard to steer").fill("3")


def see_each_pull(artist: Visit) -> None:
    """On the open timeline, see how hard each style and steering pull at a step, and where."""
    page = artist.page
    pulls = page.get_by_role("region", name="Mix").get_by_role("button")
    expect(pulls).to_have_count(4)
    plain = artist.pixels("timeline")
    page.keyboard.press("Home")
    expect(pulls.nth(1)).to_contain_text(re.compile(r"ukiyo-e0\.\d+"))
    pulls.nth(1).click()
    expect(pulls.nth(1)).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".heat-words")).to_have_text("Bright where ukiyo-e pulls at this step.")
    page.keyboard.press("End")
    expect(page.locator(".heat-words")).to_have_text("Bright where ukiyo-e pulled most on the whole way.")
    heated = artist.pixels("timeline")
    assert heated != plain
    expect(pulls.last).to_contain_text(re.compile(r"steering$"))
    pulls.last.click()
    expect(page.locator(".heat-words")).to_have_text("Bright where steering pulled most on the whole way.")
    assert artist.pixels("timeline") not in (plain, heated)


def test_three_styles_with_a_drawn_curve_are_painted_kept_and_found_again(
    browser: Browser, tmp_path: Path
) -> None:
    with open_house(tmp_path) as house, visit(browser, house) as artist:
        page = enter_desk(artist, steps=4)
        touch(page, "baroque")
        expect(page.locator(".portion")).to_have_count(3)  # beside the two that are there at first
        draw_falling_curve(page)
        expect(page.get_by_role("img", name=re.compile("baroque: more at the beginning"))).to_be_visible()
        page.get_by_role("button", name="Blend the strokes").click()
        page.get_by_label("Weight of ukiyo-e").fill("-20")
        follow_a_picture(page)
        steer(page)
        page.locator(".mixing-paint").click()
        stage = page.locator("#blend-stage")
        timeline = stage.get_by_role("button", name="Open timeline")
        expect(timeline).to_be_enabled()

        page.get_by_label("A name for this mix").fill("Evening <river>")
        page.get_by_role("button", name="Keep", exact=True).click()
        kept = page.get_by_role("button", name="Evening <river>", exact=True)
        expect(kept.locator("img")).to_have_js_property("complete", True)

        timeline.click()
        expect(page.locator(".timeline-prompt")).to_have_text(PROMPT)
        told = page.request.get(timeline_address(artist)).json()
        styles = {style["name"]: style for style in told["recipe"]["mix"]["styles"]}
        followed = [one["strength"] for one in told["recipe"]["mix"]["references"]]
        assert (styles["ukiyo-e"]["weight"], followed) == (-20, [0.3])
        expect(page.locator(".pulls-words")).to_contain_text("Beside it, a picture was followed and")
        curve = styles["baroque"]["curve"]
        assert (curve[0] > 0.9, curve[-1] < 0.1, curve) == (True, True, sorted(curve, reverse=True))
        felt = [set(step["contributions"]) for step in told["steps"]]
        late = {"impressionism", "ukiyo-e", "steering"}
        assert felt == [{*styles, "steering"}] * 2 + [late] * 2

        see_each_pull(artist)
        check(artist)
        state = artist.page.context.storage_state()

    with open_house(tmp_path) as house:
        context = browser.new_context(viewport={"width": 1440, "height": 900}, storage_state=state)
        again = Visit(context.new_page(), house)
        again.listen()
        again.page.goto(house.url)
        again.page.get_by_role("tab", name="Style blending").click()
        expect(again.page.locator(".portion")).to_have_count(2)
        again.page.get_by_role("button", name="Evening <river>", exact=True).click()
        expect(again.page.locator(".portion")).to_have_count(3)
        expect(again.page.get_by_label("Weight of ukiyo-e")).to_have_value("-20")
        expect(again.page.get_by_alt_text("A picture that is followed")).to_have_js_property("complete", True)
        expect(again.page.get_by_label("How far the picture is followed")).to_have_value("0.3")
        expect(again.page.get_by_role("button", name="Blend the strokes")).to_have_attribute(
            "aria-pressed", "true"
        )
        again.page.get_by_role("button", name="Delete Evening <river>").click()
        expect(again.page.locator(".preset")).to_have_count(0)
        check(again)
        context.close()


def test_a_strip_is_laid_out_and_each_cell_is_a_recipe(artist: Visit) -> None:
    page = enter_desk(artist, steps=2)
    page.get_by_role("button", name="Strip").click()
    page.locator(".mixing-paint").click()
    stage = page.locator("#blend-stage")
    expect(stage.locator(".stage-status")).to_have_text("7 pictures finished")
    cells = stage.locator(".sheet-cell")
    expect(cells.first).to_contain_text("impressionism")
    expect(cells.last).to_contain_text("ukiyo-e")
    boxes = [box for cell in cells.all() if (box := cell.bounding_box())]
    assert len({round(box["y"]) for box in boxes}) == 1
    assert [box["x"] for box in boxes] == sorted({box["x"] for box in boxes})
    # It is there again after a reload, in its order; a cell opens, and its mix can be taken over.
    page.reload()
    page.get_by_role("tab", name="Style blending").click()
    expect(cells).to_have_count(7)
    cells.nth(1).click()
    stage.get_by_role("button", name="Use these settings").click()
    expect(page.locator(".portion-share").first).to_have_text("83 %")

    # What cannot be painted is said where she looks, and the desk keeps what she chose.
    touch(page, "baroque")
    page.get_by_role("button", name="Strip").click()
    page.locator(".mixing-paint").click()
    complaint = page.locator(".mixing .complaint")
    expect(complaint).to_contain_text("the mix has 3, choose 2")
    expect(complaint).to_be_in_viewport()
    expect(page.locator(".portion")).to_have_count(3)
    expect(page.locator("#mix-prompt")).to_have_value(PROMPT)


def test_a_mix_to_begin_from_and_words_of_her_own(artist: Visit) -> None:
    artist.enter()
    page = artist.page
    page.get_by_role("tab", name="Style blending").click()
    page.locator("#blend-stage .idea").last.click()
    expect(page.locator(".portion")).to_have_count(3)
    expect(page.locator("#mix-prompt")).not_to_have_value("")
    page.get_by_role("button", name="own words").click()
    page.get_by_label("Your own words").fill("pencil sketch, monochrome")
    page.keyboard.press("Enter")
    expect(page.locator(".portion")).to_have_count(4)
    for name in page.locator(".portion-name").all_inner_texts():
        page.get_by_label(f"Weight of {name}").fill("0")
    page.locator(".mixing-paint").click()
    expect(page.locator(".mixing .complaint")).to_contain_text("Every weight is zero or below")


def test_a_region_is_brushed_on_and_the_picture_restyled(artist: Visit) -> None:
    page = enter_desk(artist, steps=4)
    page.get_by_role("button", name="Where", exact=True).click()
    canvas = page.locator(".where-canvas")
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + 5, steps=8)
    page.mouse.up()
    page.locator(".mixing-paint").click()
    expect(canvas).to_be_hidden()
    stage = page.locator("#blend-stage")
    timeline = stage.get_by_role("button", name="Open timeline")
    expect(timeline).to_be_enabled()

    page.get_by_role("tab", name="Gallery").click()
    page.locator(".frame").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Restyle").click()
    expect(page.get_by_alt_text("The picture to restyle")).to_have_js_property("complete", True)
    page.get_by_label("How far to go from the picture").fill("0.5")
    expect(page.locator(".restyle-words")).to_have_text("Begins at step 3 of 4.")
    with page.expect_request(FOLLOWED):
        page.locator(".mixing-paint").click()
    expect(stage.locator(".stage-status")).to_have_text("Finished")
    expect(timeline).to_be_enabled()
    timeline.click()
    expect(page.locator(".timeline-place")).to_have_text("The finished picture")
    told = page.request.get(timeline_address(artist)).json()
    assert (len(told["steps"]), told["recipe"]["source"]["strength"]) == (2, 0.5)
    (painted,) = [style for style in told["recipe"]["mix"]["styles"] if "region" in style]
    region = base64.b64decode(painted["region"])
    assert min(region[: 32 * 2]) > 0, "the top was brushed over from side to side"
    assert max(region[32 * 16 :]) == 0


def test_a_lora_is_added_painted_kept_and_found_again(browser: Browser, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "loras"
    with open_house(tmp_path) as house, visit(browser, house) as artist:
        page = enter_desk(artist, steps=3)
        loras = page.locator("#mixing").get_by_role("group", name="LoRAs")
        expect(loras).to_contain_text("once their safetensors files lie in")
        expect(loras.get_by_role("button", name="Add a LoRA")).to_be_hidden()

        updates = random_updates(find_model(MODEL or EMBEDDED).path, rank=2, seed=3, size=0.02)
        tensors = {
            f"unet.{layer}.lora_{letter}.weight": matrix
            for layer, matrices in updates.items()
            for letter, matrix in zip("AB", matrices, strict=True)
        }
        save_file(tensors, folder / "soft charcoal.safetensors")
        (folder / "old.ckpt").write_bytes(b"pickled")
        page.get_by_role("tab", name="Gallery").click()
        page.get_by_role("tab", name="Style blending").click()
        loras.get_by_role("button", name="Add a LoRA").click()
        expect(loras).to_contain_text("old.ckpt is a pickle")
        expect(loras.get_by_role("button", name="old", exact=True)).to_be_disabled()
        loras.get_by_role("button", name="soft charcoal").click()
        weight = page.locator("#mixing").get_by_label("Weight of the LoRA soft charcoal")
        weight.fill("-0.75")
        expect(loras.get_by_role("status")).to_have_text(re.compile("0.75$"))
        page.locator(".mixing-paint").click()
        stage = page.locator("#blend-stage")
        expect(stage.get_by_role("button", name="Open timeline")).to_be_enabled()
        page.get_by_label("A name for this mix").fill("Charcoal")
        page.get_by_role("button", name="Keep", exact=True).click()
        expect(page.locator(".preset img")).to_have_count(1)

        loras.get_by_role("button", name="Take the LoRA soft charcoal out").click()
        expect(weight).to_be_hidden()
        page.reload()
        page.get_by_role("tab", name="Style blending").click()
        page.get_by_role("button", name="Charcoal", exact=True).click()
        expect(weight).to_have_value("-0.75")
        page.get_by_role("button", name="Grid").click()
        page.get_by_label("Across: what is varied").select_option("Weight of soft charcoal")
        page.get_by_label("Across: values").fill("0, 1")
        page.get_by_label("Down: values").fill("7")
        page.locator(".mixing-paint").click()
        expect(stage.locator(".stage-status")).to_have_text("2 pictures finished")
        expect(stage.locator(".sheet-seed").first).to_have_text("soft charcoal 0 · seed 7")
        check(artist)


def test_a_picture_is_followed_through_an_ip_adapter(browser: Browser, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "ip_adapters"
    with open_house(tmp_path) as house, visit(browser, house) as artist:
        page = enter_desk(artist, steps=3)
        desk = page.locator("#mixing")
        expect(desk.get_by_text("IP-Adapters, which take over what a picture shows")).to_be_visible()
        follow_a_picture(page)
        followed = desk.get_by_role("group", name="Pictures that are followed")
        expect(followed).to_contain_text("Takes over its colour and manner")
        expect(followed.get_by_role("button", name="Shared attention")).to_be_hidden()

        save_ip_adapter(folder, find_model(MODEL or EMBEDDED).path, name="soft look")
        (folder / "old.ckpt").write_bytes(b"pickled")
        page.get_by_role("tab", name="Gallery").click()
        page.get_by_role("tab", name="Style blending").click()
        followed.get_by_role("button", name="Shared attention").click()
        ways = followed.get_by_role("group", name="How the picture is followed")
        expect(ways).to_contain_text("old.ckpt is a pickle")
        expect(ways.get_by_role("button", name="old", exact=True)).to_be_disabled()
        ways.get_by_role("button", name="soft look").click()
        chosen = followed.get_by_role("button", name="soft look")
        expect(followed).to_contain_text("Takes over what it shows as a whole")
        expect(page.get_by_label("How far the picture is followed")).to_have_value("0.3")
        page.locator(".mixing-paint").click()
        stage = page.locator("#blend-stage")
        timeline = stage.get_by_role("button", name="Open timeline")
        expect(timeline).to_be_enabled()
        page.get_by_label("A name for this mix").fill("Soft")
        page.get_by_role("button", name="Keep", exact=True).click()
        expect(page.locator(".preset img")).to_have_count(1)

        page.get_by_role("button", name="Let the picture go").click()
        expect(chosen).to_be_hidden()
        page.reload()
        page.get_by_role("tab", name="Style blending").click()
        page.get_by_role("button", name="Soft", exact=True).click()
        expect(chosen).to_be_visible()
        timeline.click()
        words = page.locator(".pulls-words")
        expect(words).to_contain_text("Beside it, a picture was followed through soft look.")
        told = page.request.get(timeline_address(artist)).json()
        (reference,) = told["recipe"]["mix"]["references"]
        assert (reference["strength"], reference["ip_adapter"]["name"]) == (0.3, "soft look")
        check(artist)
