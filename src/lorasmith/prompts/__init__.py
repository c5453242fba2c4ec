"""The grammar of prompts: weights, schedules, LoRA tags, wildcards. No torch."""
