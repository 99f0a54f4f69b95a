"""What reason.txt says: for each reason what was expected, and what to do."""

BAD_CASE_LIST = "bad-case-list"
AGAIN = "Export it again and drop it in rawdata."
PICTURE = "a PNG, JPEG or TIFF picture"
VOLUME = "a NIfTI or NRRD file, or a whole DICOM series"

# Keyword → what was expected, what to do.
REASONS: dict[str, tuple[str, str]] = {
    "empty": (f"{PICTURE}; {VOLUME}", "The copy did not succeed: copy it again."),
    "not-an-image": (
        f"{PICTURE}, or {VOLUME}; a list of cases is called cases.csv and lies in rawdata itself",
        "Export it as PNG, JPEG or TIFF, or keep it outside rawdata.",
    ),
    "truncated": ("a whole file", "The copy or export was cut off: copy it again."),
    "broken": ("a file that can be decoded", AGAIN),
    "too-many-pixels": (
        "a picture within the pixel limit (INGEST_MAX_PIXELS)",
        "Crop or shrink it, or ask the admin to raise the limit.",
    ),
    "too-many-scans": (
        "a JPEG of at most 64 scans; progressive ones have about ten",
        "Save it again as an ordinary JPEG or as PNG.",
    ),
    "too-large": ("a file within the size limit", "Crop or shrink it."),
    "too-small": ("at least 8 × 8 pixels, or 2 voxels each way", AGAIN),
    "absurd-shape": ("a longer side of at most 64 times the shorter", AGAIN),
    "multi-page": ("one picture in a file", "Save each page as a file of its own."),
    "animated": ("one still picture", "Save the frame you mean as a PNG."),
    "pixel-type": (
        "8 or 16 bits of grey, or colour; no floating point",
        "Scale the values to 8 or 16 bits and save it again.",
    ),
    "symlink": ("a file", "Copy the file itself; links are never followed."),
    "not-a-file": ("a file", "Remove it from rawdata; pipes and devices hold no picture."),
    "too-deep": ("at most 32 folders inside each other", "Move the pictures further up."),
    "bad-name": (
        "a name in plain UTF-8 letters, digits and signs",
        "Rename it and drop it in rawdata again.",
    ),
    "permission-denied": (
        "a file that ingest may read",
        "Give the group of Labloop read access and drop it in rawdata again.",
    ),
    "duplicate": (
        "each picture once",
        "Nothing, if it is a copy. If it is another patient's picture, one of the two is wrong.",
    ),
    "unknown-class": (
        "a folder, or a label in cases.csv, that task.yaml knows",
        "Put it in the right folder, or add the label to task.yaml, and drop it again.",
    ),
    "contradiction": (
        "the same label in the folder's name and in cases.csv",
        "Correct one of the two and drop the picture again.",
    ),
    "name-twice": (
        "the folder, too, of a file in cases.csv when two pictures have its name",
        "Write their paths below rawdata in cases.csv, and drop it and this picture again.",
    ),
    "mask-size": (
        "a mask of the same rows and columns as its picture",
        "Export the mask at the picture's size and drop it again.",
    ),
    "mask-values": (
        "0/255 for one label, indices as in task.yaml, or the labels' colours",
        "Export the mask without smoothing or compression and drop it again.",
    ),
    "mask-rotated": (
        "a picture and a mask without an EXIF turn",
        "It cannot be known on which side up the mask was drawn: save both upright, drop both.",
    ),
    "mask-without-picture": (
        "a picture of the same name in the matching folder",
        "Drop the picture and this mask again, together.",
    ),
    "mask-ambiguous": (
        "one mask for one picture",
        "Keep one of the files of this name and drop it again.",
    ),
    BAD_CASE_LIST: (
        "a cases.csv in UTF-8 with a column `file` and one line per picture",
        "Correct it and drop it in rawdata again. Until then, or until this folder is deleted, "
        "new pictures of the task wait, so that no patient is split.",
    ),
}

EXPORT = "Export the series again, whole and as it came from the scanner, and drop it."

REASONS |= {
    "volume-among-pictures": (
        f"{PICTURE}, as task.yaml says `modality: picture`",
        "Drop it in a task of volumes (`modality: CT` or MR in task.yaml).",
    ),
    "not-a-volume": (
        f"{VOLUME}, as task.yaml names a modality of volumes",
        "Drop pictures in a task of pictures; keep papers and tables outside rawdata.",
    ),
    "not-3d": (
        "one volume of three axes in a file",
        "Export each time point, echo or channel as a file of its own.",
    ),
    "too-many-voxels": (
        "a volume within the voxel limit (INGEST_MAX_VOXELS)",
        "Crop it, or ask the admin to raise the limit.",
    ),
    "spacing": ("voxels of 0.01 to 100 mm each way", EXPORT),
    "affine": ("an affine of finite numbers whose axes span a volume", EXPORT),
    "voxel-type": ("whole numbers or floating point, one number for each voxel", EXPORT),
    "not-finite": ("voxels that are numbers", EXPORT),
    "channel-missing": (
        "a file for each channel that task.yaml names",
        "Drop all channels of the case together; cases.csv or the numbers say which is which.",
    ),
    "channel-grid": (
        "all channels of a case on one voxel grid",
        "Resample them onto one grid (after registering them) and drop all of them again.",
    ),
    "channel-unknown": (
        "a channel in cases.csv that `volume: channels` in task.yaml names",
        "Correct one of the two and drop the file again.",
    ),
    "channel-twice": ("one file for each channel of a case", "Keep one of them and drop it again."),
    "other-modality": (
        "volumes of the modality that task.yaml names",
        "Drop it in a task of its own modality: values mean something else there.",
    ),
    "too-few-slices": ("a series of at least three slices", EXPORT),
    "missing-slices": ("a series without gaps", EXPORT),
    "uneven-spacing": ("slices at even distances", EXPORT),
    "duplicate-slices": (
        "one image for each place",
        "Export the series alone; time points and echoes need headers that tell them apart.",
    ),
    "mixed-matrix": ("images of one size and field of view in a series", EXPORT),
    "mixed-orientation": ("images in one plane in a series", EXPORT),
    "localizer": ("a series that makes a volume", "Nothing: a localizer is no volume."),
    "not-a-stack": ("slices that lie behind each other", EXPORT),
    "no-position": ("images that say where they lie (Image Position Patient)", EXPORT),
    "no-orientation": ("an image that says how it lies in the patient", EXPORT),
    "no-spacing": ("images that say how large a pixel is (Pixel Spacing)", EXPORT),
    "colour": ("grey values", "Drop colour pictures, saved as PNG, in a task of pictures."),
    "late-slices": (
        "all images of a series together, within three quiet times of each other",
        "Take the series out of rawdata and drop all of it again, in a folder of a new name; it "
        "becomes a case of its own, beside the incomplete one.",
    ),
    "rejected-by-a-person": (
        "pixels without text that may name a patient",
        "Export the series without burned-in text and drop it again.",
    ),
    "several-patients": (
        "one patient in a series, and in the channels of a case",
        "Export each patient's series again; check who is who before labelling.",
    ),
    "other-grid": (
        "a label map on the voxel grid of its volume",
        "Export the label map on the grid of the volume and drop it again.",
    ),
    "label-values": (
        "0 for background and the labels' indices, as in task.yaml",
        "Correct the values, or the labels in task.yaml, and drop the label map again.",
    ),
}


def reason_of(keyword: str) -> tuple[str, str]:
    """What was expected and what to do. Readers of files may know reasons that have no entry."""
    return REASONS.get(keyword, (VOLUME, EXPORT))
