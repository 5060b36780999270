"""Pictures of docs/synthetic.md: synthetic images beside real ones, signs by aggressiveness, artefacts and traps.

    python docs/synthetic_pictures.py REAL [OUT]

REAL holds mri/sts-ibsi/nifti/STS_*/ (T1 with a tumour mask) and he_tiles/osteosarcoma-utsw/*.jpg; OUT is docs/images.
Of the real images only these small figures are kept, with origin and licence in the page.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image, ImageDraw

from cmssd_core.synthetic.artefacts import ARTEFACTS, spoil
from cmssd_core.synthetic.case import draw_case, latent_of
from cmssd_core.synthetic.centres import centre
from cmssd_core.synthetic.histology import section
from cmssd_core.synthetic.latents import Latent
from cmssd_core.synthetic.mimics import Mimics
from cmssd_core.synthetic.phantom import Scan, ScanSettings, scan
from cmssd_core.synthetic.settings import SynthSettings
from cmssd_core.synthetic.shortcuts import SHORTCUTS

SEED, SLICE = 16, 8  # an axial scan, through the lesion's middle
EDGE, BAR = 190, 15  # px of a picture in a figure, of the caption above it
Tile = tuple[str, Image.Image]


def grey(image: np.ndarray) -> Image.Image:
    """A slice (y, x) between its 1st and 99.7th percentile."""
    low, high = np.percentile(image, (1, 99.7))
    shown = (np.clip((image - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(shown).convert("RGB")


def square(image: Image.Image) -> Image.Image:
    """Fitted into the tile, black around it."""
    small = image.copy()
    scale = EDGE / max(image.size)
    small = small.resize([max(1, round(n * scale)) for n in image.size], Image.Resampling.LANCZOS)
    out = Image.new("RGB", (EDGE, EDGE))
    out.paste(small, ((EDGE - small.width) // 2, (EDGE - small.height) // 2))
    return out


def figure(rows: list[list[Tile]], path: Path) -> None:
    """Rows of captioned pictures into one JPEG."""
    wide = max(len(row) for row in rows)
    out = Image.new("RGB", (wide * (EDGE + 3), len(rows) * (EDGE + BAR + 3)), "white")
    pen = ImageDraw.Draw(out)
    for j, row in enumerate(rows):
        for i, (words, image) in enumerate(row):
            x, y = i * (EDGE + 3), j * (EDGE + BAR + 3)
            pen.text((x + 2, y + 1), words, fill="black")
            out.paste(square(image), (x, y + BAR))
    out.save(path, quality=80)
    print(f"{path.name}  {path.stat().st_size / 1000:.0f} kB")


def largest(body: Scan) -> int:
    """The slice with most lesion."""
    return int(body.lesion.sum((1, 2)).argmax())


def real_mri(folder: Path) -> list[Tile]:
    """The slice with most tumour of some patients, T1."""
    found = []
    for patient in sorted(folder.glob("STS_*"))[:5]:
        image, mask = (
            sitk.GetArrayFromImage(sitk.ReadImage(str(patient / f"MR_T1_{kind}.nii.gz"))) for kind in ("image", "mask")
        )
        k = int((mask > 0).sum((1, 2)).argmax())
        found.append((f"real, {patient.name}, T1", grey(image[k])))
    return found


def real_tiles(folder: Path) -> list[Tile]:
    """Crops of tiles of each class, at about 1 micron a pixel."""
    found = []
    for kind, count in (("Viable", 2), ("Non-Viable-Tumor", 1), ("Non-Tumor", 2)):
        paths = sorted(folder.glob(f"{kind}___*.jpg"))
        darkest = sorted(paths, key=lambda path: np.asarray(Image.open(path).convert("L")).mean())
        for path in darkest[:count]:
            found.append((f"real, {kind.lower()}", Image.open(path).crop((320, 320, 704, 704))))
    return found


def synthetic_mri(preset: str, contrasts: tuple[str, ...]) -> list[Tile]:
    """Five malignant patients of a preset, one contrast each of `contrasts` in turn."""
    chosen, found, number = SynthSettings(preset=preset, seed=21), [], 0
    while len(found) < 5:
        latent = latent_of(number, settings=chosen)
        if latent.malignant and latent.aggressive_mri > 0.5:
            body = draw_case(number, settings=chosen).body
            name = contrasts[len(found) % len(contrasts)]
            found.append((f"{preset}, malignant, {name.upper()}", grey(body.images[name][largest(body)])))
        number += 1
    return found


def synthetic_slides(preset: str) -> list[Tile]:
    """Three malignant and two benign slides of a preset."""
    chosen, found = SynthSettings(preset=preset, seed=22, slide_px=512, slide_artefacts=0.0), []
    for malignant, count in ((True, 3), (False, 2)):
        fitting = (n for n in range(500) if latent_of(n, settings=chosen).malignant == malignant)
        for _ in range(count):
            rgb = draw_case(next(fitting), settings=chosen).slide.rgb
            word = "malignant" if malignant else "benign"
            found.append((f"{preset}, {word}", Image.fromarray(rgb[:384, :384])))
    return found


def graded() -> list[list[Tile]]:
    """One and the same patient at five grades; below, the slides."""
    place, settings = centre(1, seed=21), ScanSettings(contrasts=("t2",))
    images, slides = [], []
    for z in (0.1, 0.3, 0.5, 0.7, 0.95):
        latent = Latent(z > 0.5, z, z, 0.4, 30.0, graded=True, z=z)
        body = scan(latent, place, settings=settings, rng=np.random.default_rng(SEED))
        images.append((f"aggressiveness {z}, T2", grey(body.images["t2"][SLICE])))
        rgb = section(latent, place, size_px=384, rng=np.random.default_rng(5)).rgb
        slides.append((f"aggressiveness {z}, H&E", Image.fromarray(rgb)))
    return [images, slides]


def mimics() -> list[Tile]:
    """A benign lesion, and as each mimic."""
    place, settings = centre(1, seed=21), ScanSettings(contrasts=("t2",))
    latent = Latent(False, 0.1, 0.1, 0.4, 30.0, graded=True, z=0.1)
    found = []
    kinds = {"benign, T2": (False, 0.0, 0.0), "cystic": (True, 0.0, 0.0), "scalloping": (False, 0.95, 0.0)}
    for words, kind in {**kinds, "oedema of the muscle": (False, 0.0, 9.0)}.items():
        body = scan(latent, place, settings=settings, rng=np.random.default_rng(SEED), mimics=Mimics(*kind))
        found.append((words, grey(body.images["t2"][SLICE])))
    return found


def spoilt() -> list[Tile]:
    """A slide with each artefact."""
    chosen = SynthSettings(preset="realistic", seed=3, slide_px=512, slide_artefacts=0.0)
    rgb = draw_case(1, settings=chosen).slide.rgb
    found = [("no artefact", Image.fromarray(rgb))]
    for i, name in enumerate(ARTEFACTS):
        found.append((name, Image.fromarray(spoil(rgb, name, mpp=1.0, rng=np.random.default_rng(i + 4))[0])))
    return found


def traps() -> list[Tile]:
    """A patient with each shortcut."""
    chosen = SynthSettings(preset="realistic", seed=21, slide_px=384, slide_artefacts=0.0, shortcut_correlation=1.0)
    number = next(n for n in range(99) if (found := latent_of(n, settings=chosen)).malignant and found.size < 0.4)
    tiles = []
    for name in SHORTCUTS:
        drawn = draw_case(number, settings=replace(chosen, shortcut=name))
        if name in ("pen", "jpeg"):
            encoded = BytesIO()
            Image.fromarray(drawn.slide.rgb[:192, :192]).save(encoded, "JPEG", quality=drawn.slide_quality)
            tiles.append((f"shortcut: {name}", Image.open(encoded)))
        else:
            images = drawn.body.images["t2"]
            where = drawn.body.extra_oedema.sum((1, 2)) if name == "oedema" else drawn.body.lesion.sum((1, 2))
            tiles.append((f"shortcut: {name}", grey(images[int(where.argmax())])))
    return tiles


def main() -> None:
    """Draw every figure."""
    real = Path(sys.argv[1])
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent / "images"
    out.mkdir(parents=True, exist_ok=True)
    rows = [synthetic_mri("paper", ("t1", "t2", "stir", "adc", "t1")), synthetic_mri("realistic", ("t1",))]
    figure([real_mri(real / "mri/sts-ibsi/nifti"), *rows], out / "synthetic_mri.jpg")
    slides = [synthetic_slides("paper"), synthetic_slides("realistic")]
    figure([real_tiles(real / "he_tiles/osteosarcoma-utsw"), *slides], out / "synthetic_he.jpg")
    figure([*graded(), mimics()], out / "synthetic_grades.jpg")
    figure([spoilt(), traps()], out / "synthetic_traps.jpg")


if __name__ == "__main__":
    main()
