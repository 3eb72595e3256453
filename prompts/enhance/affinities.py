"""What is expected of techniques before anybody has said anything: a guess of ours, which feedback outweighs soon.

A number is the share of prompts of an intent that a technique is expected to help. What is not named here, such as
techniques and intents that operators have added, is expected to help as often as not, or a little less.
"""

from __future__ import annotations

from prompts.models.intents import UNKNOWN

# As much as this many judgements.
WEIGHT = 4.0
NOT_NAMED = 0.35

AFFINITIES: dict[str, dict[str, float]] = {
    "analysis": {
        "chain_of_thought": 0.7,
        "step_back": 0.65,
        "structured_output": 0.55,
        "delimiters_and_context": 0.6,
        "chain_of_verification": 0.6,
        "role": 0.55,
        "self_consistency": 0.45,
        "tree_of_thoughts": 0.5,
    },
    "brainstorming": {
        "tree_of_thoughts": 0.8,
        "role": 0.6,
        "constraints": 0.5,
        "few_shot": 0.45,
        "structured_output": 0.4,
        "chain_of_thought": 0.2,
        "self_consistency": 0.15,
        "chain_of_verification": 0.15,
    },
    "code": {
        "plan_and_solve": 0.7,
        "constraints": 0.65,
        "self_critique": 0.65,
        "role": 0.5,
        "few_shot": 0.5,
        "delimiters_and_context": 0.45,
        "chain_of_thought": 0.5,
    },
    "conversation": {
        "role": 0.6,
        "constraints": 0.5,
        "few_shot": 0.3,
        "chain_of_thought": 0.1,
        "plan_and_solve": 0.1,
        "tree_of_thoughts": 0.1,
        "self_consistency": 0.05,
        "react": 0.05,
        "structured_output": 0.1,
    },
    "data_extraction": {
        "structured_output": 0.9,
        "few_shot": 0.75,
        "delimiters_and_context": 0.75,
        "constraints": 0.6,
        "chain_of_verification": 0.4,
        "chain_of_thought": 0.15,
        "tree_of_thoughts": 0.05,
        "role": 0.2,
    },
    "debugging": {
        "react": 0.7,
        "chain_of_thought": 0.7,
        "delimiters_and_context": 0.6,
        "zero_shot_step_by_step": 0.55,
        "role": 0.5,
        "self_critique": 0.4,
        "tree_of_thoughts": 0.4,
    },
    "explaining": {
        "step_back": 0.75,
        "role": 0.65,
        "few_shot": 0.5,
        "constraints": 0.45,
        "zero_shot_step_by_step": 0.5,
        "least_to_most": 0.5,
        "chain_of_verification": 0.4,
    },
    "maths": {
        "chain_of_thought": 0.8,
        "self_consistency": 0.75,
        "zero_shot_step_by_step": 0.7,
        "plan_and_solve": 0.65,
        "least_to_most": 0.65,
        "chain_of_verification": 0.5,
        "role": 0.25,
        "structured_output": 0.25,
    },
    "planning": {
        "plan_and_solve": 0.8,
        "tree_of_thoughts": 0.6,
        "constraints": 0.65,
        "structured_output": 0.5,
        "role": 0.45,
        "self_critique": 0.45,
    },
    "summarising": {
        "chain_of_density": 0.75,
        "delimiters_and_context": 0.65,
        "constraints": 0.65,
        "chain_of_verification": 0.5,
        "structured_output": 0.4,
        "chain_of_thought": 0.1,
        "tree_of_thoughts": 0.05,
    },
    "translating": {
        "delimiters_and_context": 0.65,
        "self_critique": 0.65,
        "few_shot": 0.6,
        "role": 0.6,
        "constraints": 0.5,
        "chain_of_thought": 0.1,
        "tree_of_thoughts": 0.05,
        "react": 0.05,
    },
    "writing": {
        "role": 0.7,
        "self_critique": 0.7,
        "constraints": 0.6,
        "few_shot": 0.55,
        "plan_and_solve": 0.45,
        "structured_output": 0.2,
        "self_consistency": 0.1,
        "react": 0.05,
    },
    UNKNOWN: {
        "delimiters_and_context": 0.55,
        "constraints": 0.55,
        "zero_shot_step_by_step": 0.55,
        "role": 0.5,
        "self_critique": 0.45,
    },
}


def affinity(intent: str, technique: str) -> float:
    """From 0 to 1."""
    return AFFINITIES.get(intent, AFFINITIES[UNKNOWN]).get(technique, NOT_NAMED)
