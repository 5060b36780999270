"""What an audit cannot catch: said beside every verdict. Measured in docs/explainability.md."""

LIMITS = (
    "A shortcut that no probe looks like, that has no fixed place on the image and no column in the cohort's table.",
    "A pen line or another mark on the slide that the cohort's table does not name: a pasted pen upsets honest models "
    "that never met one as much as it moves a cheat, so it only warns.",
    "More oedema, or another change that looks like disease, where no generator can render the same patient with and "
    "without it.",
    "A shortcut that this cohort's cases do not carry in any form: an audit sees what its cases show.",
    "A shortcut that moves the answers little: below a change of AUC by 0.1 when it changes sides.",
    "Whether the criterion itself tells the disease: the audit compares the model with the criterion, not with biopsy.",
)
