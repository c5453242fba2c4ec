"""Files of other programs to settings of lorasmith."""
