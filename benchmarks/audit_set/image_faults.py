"""Faults of pictures."""

from __future__ import annotations

import shutil

import numpy as np
from benchmarks.audit_set.faults import IMAGE_FAULTS, Fault, Planter, fault, register
from benchmarks.audit_set.pictures import COLOURS, Picture, save
from PIL import Image, ImageDraw, ImageFilter, ImageFont

plants = register(IMAGE_FAULTS)


def resized(image: Image.Image, factor: float) -> Image.Image:
    size = (round(image.width * factor), round(image.height * factor))
    return image.resize(size, Image.Resampling.LANCZOS)


def rewrite(picture: Picture, image: Image.Image, suffix: str | None = None) -> None:
    """The picture's file with other pixels, perhaps of another kind."""
    if suffix is not None and suffix != picture.path.suffix:
        picture.path.unlink()
        picture.path = picture.path.with_suffix(suffix)
    save(image, picture.path)
    picture.image = image


def copy_of(planter: Planter, picture: Picture, suffix: str) -> Picture:
    """A second picture beside this one, with the same caption; its file isn't written yet."""
    path = picture.path.with_name(f"{picture.path.stem} (1){suffix}")
    shutil.copy(picture.caption, path.with_suffix(".txt"))
    copy = Picture(path, picture.concept, list(picture.tags), picture.image, picture.drawing)
    planter.set.pictures.append(copy)
    planter.spent.add(copy.name)
    return copy


@plants
def cut_off_download(planter: Planter) -> Fault:
    (picture,) = planter.pick()
    data = picture.path.read_bytes()
    picture.path.write_bytes(data[: int(len(data) * planter.rng.uniform(0.3, 0.7))])
    return fault("the download broke off", [picture], "unreadable")


@plants
def exact_copy(planter: Planter) -> Fault:
    (picture,) = planter.pick()
    copy = copy_of(planter, picture, picture.path.suffix)
    shutil.copy(picture.path, copy.path)
    both = [picture, copy]
    return fault("saved twice", both, "exact duplicate", "near duplicate, same caption")


@plants
def smaller_copy(planter: Planter) -> Fault:
    (picture,) = planter.pick(where=lambda p: min(p.image.size) > 700)
    copy = copy_of(planter, picture, ".jpg")
    image = resized(picture.image, planter.rng.uniform(0.7, 0.9))
    save(image, copy.path, quality=planter.rng.randint(70, 85))
    return fault("a sample of it, too", [picture, copy], "near duplicate", "same caption")


@plants
def cropped_copy(planter: Planter) -> Fault:
    (picture,) = planter.pick(where=lambda p: min(p.image.size) > 600)
    copy = copy_of(planter, picture, ".png")
    width, height = picture.image.size
    cuts = [planter.rng.uniform(0.02, 0.08) for _ in range(4)]
    box = (cuts[0] * width, cuts[1] * height, (1 - cuts[2]) * width, (1 - cuts[3]) * height)
    save(picture.image.crop(tuple(round(x) for x in box)), copy.path)  # type: ignore[arg-type]
    also = "same caption, lonely in bucket, cropped"  # the crop has a shape of its own
    return fault("a crop of it, too", [picture, copy], "near duplicate", also)


@plants
def mirrored_copy(planter: Planter) -> Fault:
    (picture,) = planter.pick()
    copy = copy_of(planter, picture, ".png")
    save(picture.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), copy.path)
    return fault("mirrored for more pictures", [picture, copy], "near duplicate", "same caption")


@plants
def out_of_focus(planter: Planter) -> Fault:
    (picture,) = planter.pick()
    radius = min(picture.image.size) * planter.rng.uniform(0.006, 0.012)
    rewrite(picture, picture.image.filter(ImageFilter.GaussianBlur(radius)))
    return fault(f"blurred by {radius:.1f} px", [picture], "blurred", "low information")


@plants
def thumbnail(planter: Planter) -> Fault:
    (picture,) = planter.pick()
    factor = planter.rng.uniform(150, 260) / min(picture.image.size)
    rewrite(picture, resized(picture.image, factor))
    what = f"only {picture.image.width}x{picture.image.height}"
    return fault(what, [picture], "too small", "blurred, cropped, lonely in bucket")


@plants
def heavy_jpeg(planter: Planter) -> Fault:
    (picture,) = planter.pick()
    picture.path.unlink()
    picture.path = picture.path.with_suffix(".jpg")
    quality = planter.rng.randint(5, 15)
    save(picture.image, picture.path, quality=quality)
    return fault(f"JPEG of quality {quality}", [picture], "heavy JPEG", "blurred")


@plants
def underexposed(planter: Planter) -> Fault:
    (picture,) = planter.pick(where=lambda p: "starry sky" not in p.tags)
    factor = planter.rng.uniform(0.08, 0.2)
    rewrite(picture, picture.image.point(lambda value: value * factor))
    return fault(f"{factor:.0%} of the light", [picture], "dark", "low information")


@plants
def overexposed(planter: Planter) -> Fault:
    (picture,) = planter.pick(where=lambda p: "starry sky" not in p.tags)
    rest = planter.rng.uniform(0.06, 0.15)
    rewrite(picture, picture.image.point(lambda value: 255 - (255 - value) * rest))
    return fault(f"{rest:.0%} of the contrast, on white", [picture], "light", "low information")


@plants
def nothing_on_it(planter: Planter) -> Fault:
    (picture,) = planter.pick()
    shade = planter.rng.choice([(12, 12, 14), (240, 240, 240), (128, 120, 110)])
    grain = np.random.default_rng(planter.rng.randrange(999)).integers(-2, 3, 3)
    image = Image.new("RGB", picture.image.size, tuple(int(x) for x in shade + grain))
    rewrite(picture, image, ".png")
    also = "dark, light, blurred, grey, border, unlike all others, wrong tag"
    return fault("one colour", [picture], "low information", also)


@plants
def grey_one(planter: Planter) -> Fault:
    (picture,) = planter.pick()
    rewrite(picture, picture.image.convert("L").convert("RGB"))
    return fault("grey among colour", [picture], "grey", "unlike all others")


@plants
def letterbox(planter: Planter) -> Fault:
    (picture,) = planter.pick()
    image, share = picture.image.copy(), planter.rng.uniform(0.08, 0.16)
    shade = planter.rng.choice(["black", "white"])
    bar = round(share * image.height)
    for top in (0, image.height - bar):
        image.paste(shade, (0, top, image.width, top + bar))
    rewrite(picture, image)
    return fault(f"{shade} bars of {bar} px above and below", [picture], "border")


@plants
def frame(planter: Planter) -> Fault:
    (picture,) = planter.pick()
    bar = round(planter.rng.uniform(0.04, 0.1) * min(picture.image.size))
    inner = picture.image.crop((bar, bar, picture.image.width - bar, picture.image.height - bar))
    image = Image.new("RGB", picture.image.size, planter.rng.choice(["black", "white"]))
    image.paste(inner, (bar, bar))
    rewrite(picture, image)
    return fault(f"a frame of {bar} px", [picture], "border")


@plants
def transparent(planter: Planter) -> Fault:
    (picture,) = planter.pick()
    head = picture.drawing
    image = Image.new("RGBA", picture.image.size)
    image.paste(head, (picture.image.width - head.width, picture.image.height - head.height))
    rewrite(picture, image, ".png")
    return fault("the background is transparent", [picture], "alpha", "unlike all others, border")


@plants
def turned_by_exif(planter: Planter) -> Fault:
    (picture,) = planter.pick(where=lambda p: p.path.suffix == ".jpg")
    turned = picture.image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 270 degrees to see it upright
    save(turned, picture.path, exif=exif)
    return fault("lies on its side; EXIF says so", [picture], "EXIF")


@plants
def cmyk(planter: Planter) -> Fault:
    (picture,) = planter.pick(where=lambda p: p.path.suffix == ".jpg")
    rewrite(picture, picture.image.convert("CMYK"))
    return fault("made for print: CMYK", [picture], "colour profile")


@plants
def watermark(planter: Planter) -> Fault:
    pictures = planter.some(1, 3)
    name = planter.rng.choice(["@mira_draws", "artstation.com/odell", "patreon.com/kestrel"])
    for picture in pictures:
        image = picture.image.convert("RGBA")
        layer = Image.new("RGBA", image.size)
        font = ImageFont.load_default(round(image.width * planter.rng.uniform(0.05, 0.07)))
        alpha = planter.rng.randint(130, 220)
        place = (0.05 * image.width, planter.rng.uniform(0.7, 0.9) * image.height)
        ImageDraw.Draw(layer).text(place, name, (255, 255, 255, alpha), font=font)
        rewrite(picture, Image.alpha_composite(image, layer).convert("RGB"))
    return fault(f"{name} written over it", pictures, "text or watermark")


@plants
def other_face_at_the_border(planter: Planter) -> Fault:
    def by_itself(picture: Picture) -> bool:
        return "solo" in picture.tags

    (picture,) = planter.pick(concepts=["first", "second"], where=by_itself)
    strangers = planter.set.of("person")
    head = planter.rng.choice(strangers).drawing
    image = picture.image.copy()
    side = round(min(image.size) * planter.rng.uniform(0.35, 0.5))
    head = head.resize((side, side), Image.Resampling.LANCZOS)
    left = round(-side * 0.45) if planter.rng.random() < 0.5 else image.width - round(side * 0.55)
    image.paste(head, (left, round(image.height * 0.15)), head)
    rewrite(picture, image)
    return fault("half of another's head", [picture], "other face, face cut", "wrong tag")


@plants
def panorama(planter: Planter) -> Fault:
    (picture,) = planter.pick()
    width, height = 1024, planter.rng.randint(230, 300)
    image = Image.new("RGB", (width, height), COLOURS[planter.rng.choice(list(COLOURS))])
    head = picture.drawing.resize((height, height), Image.Resampling.LANCZOS)
    image.paste(head, (planter.rng.randint(0, width - height), 0), head)
    rewrite(picture, image)
    also = "too small, unlike all others, wrong tag"
    return fault(f"{width}x{height}", [picture], "lonely in bucket, cropped", also)


@plants
def unlike_all_others(planter: Planter) -> Fault:
    (picture,) = planter.pick()
    name = planter.rng.choice(["retina.jpg", "ihc.png", "page.png", "rocket.jpg"])
    image = planter.set.packages.photograph(name)
    image = resized(image, max(1, 520 / min(image.size)))
    rewrite(picture, image, ".png")
    also = "wrong tag, cropped, lonely in bucket, grey, blurred, text or watermark, border"
    also += ", colour profile"
    return fault(f"scikit-image's {name} by mistake", [picture], "unlike all others", also)
