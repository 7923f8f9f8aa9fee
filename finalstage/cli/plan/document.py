"""The plan as JSON, as finalstage/schemas/plan.schema.json says it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from finalstage import __version__
from finalstage.cli.plan.outlook import Outlook
from finalstage.stack import Layer

VERSION = 1
"""Goes up when a program that reads it would have to be changed. More fields may come without."""

SCHEMA = "plan.schema.json"


def write(outlook: Outlook, unseen: Sequence[str]) -> str:
    """Return the text. Odd bytes of names are escaped as lone surrogates, as Python writes them."""
    return json.dumps(document(outlook, unseen), indent=1)


def document(outlook: Outlook, unseen: Sequence[str]) -> dict[str, object]:
    """Return what is written."""
    return {
        "version": VERSION,
        "finalstage": __version__,
        "width": outlook.width,
        "targets": list(outlook.targets),
        "layers": [_layer(outlook, layer) for layer in outlook.stack.layers],
        "steps": [[layer.id for layer in group] for group in outlook.steps],
        "circles": [list(ring) for ring in outlook.circles],
        "notes": list(outlook.notes),
        "problems": list(outlook.problems),
        "unseen": list(unseen),
    }


def _layer(outlook: Outlook, layer: Layer) -> dict[str, object]:
    facts, fate = outlook.facts[layer.id], outlook.fates[layer.id]
    there = outlook.stack.by_id
    return {
        "id": layer.id,
        "kind": layer.kind,
        "type": layer.type,
        "name": layer.name,
        "title": layer.title,
        "device": layer.device or None,
        "kernel_name": facts.kernel_name or None,
        "size": facts.size,
        "below": [id for id in dict.fromkeys(layer.below) if id in there],
        "places": [id for id in dict.fromkeys(layer.places) if id in there],
        "closes": layer.closes,
        "own_file_system": not layer.shown,
        "encryption": facts.encryption or None,
        "encrypted": facts.encrypted,
        "processes": list(facts.processes),
        "held_unseen": facts.held_unseen,
        "context": layer.id in outlook.context,
        "step": outlook.step_of.get(layer.id),
        "fate": {"what": fate.what, "why": fate.why},
    }
