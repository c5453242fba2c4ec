"""What a workspace holds for its user: how far its projects are, prompts, reports of bugs."""
