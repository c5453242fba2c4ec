"""Whether this computer can make LoRAs: facts gathered once, checks over them, lines that mend."""
