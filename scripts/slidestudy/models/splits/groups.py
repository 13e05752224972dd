"""What must stay in one part: a patient, a centre, and whoever has slides that look alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Node = tuple[str, str]
"""A patient or a centre: ("patient", its id)."""


def _components(edges: Sequence[tuple[Node, Node]]) -> dict[Node, int]:
    """The number of the connected component of every node."""
    nodes = sorted({node for edge in edges for node in edge})
    place = {node: i for i, node in enumerate(nodes)}
    rows, columns = ([place[edge[side]] for edge in edges] for side in (0, 1))
    graph = coo_array((np.ones(len(edges)), (rows, columns)), shape=(len(nodes), len(nodes)))
    return dict(zip(nodes, connected_components(graph, directed=False)[1].tolist(), strict=True)) if nodes else {}


def _links(lookalikes: pd.DataFrame | None) -> list[tuple[Node, Node]]:
    """Pairs of patients that have slides that look alike."""
    if lookalikes is None:
        return []
    pairs = zip(lookalikes["patient_id_a"], lookalikes["patient_id_b"], strict=True)
    return [(("patient", a), ("patient", b)) for a, b in pairs if a != b]


def group_slides(labels: pd.DataFrame, group_by: str, lookalikes: pd.DataFrame | None = None) -> pd.Series:
    """The group of every slide; a group is never cut.

    Patients joined by look-alike slides are one group, also where a third patient joins them who has no label.

    Args:
        labels: `patient_id`, and `center` for groups by centre.
        group_by: `patient` or `center`.
        lookalikes: `patient_id_a patient_id_b` of pairs of slides that look alike; None where they do not count.

    Returns:
        The first of the group's patients, or centres, by slide.
    """
    column = "patient_id" if group_by == "patient" else "center"
    own: list[tuple[Node, Node]] = [
        ((group_by, name), ("patient", patient))
        for name, patient in zip(labels[column], labels["patient_id"], strict=True)
    ]
    component = _components(own + _links(lookalikes))
    numbers = pd.Series([component[group_by, name] for name in labels[column]], index=labels.index)
    return labels[column].groupby(numbers).transform("min")


def linked_patients(lookalikes: pd.DataFrame | None) -> dict[str, set[str]]:
    """Every patient joined to others by look-alike slides -> all of them, the patient too."""
    members: dict[int, set[str]] = {}
    component = _components(_links(lookalikes))
    for (_, patient), number in component.items():
        members.setdefault(number, set()).add(patient)
    return {patient: members[number] for (_, patient), number in component.items()}
