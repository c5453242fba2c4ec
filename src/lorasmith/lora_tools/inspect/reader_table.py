"""What other programs make of each form of adapter: found by running their own loaders.

`tests/peers` fills this table from checkouts of the programs, for SD1 and SDXL, which are the same
but in one place: AUTOMATIC1111 has the biases of whole differences exact in SD1, and leaves out
those of the attention in SDXL's second text encoder.
The base weights were random numbers in float32, alpha was not the rank, and the change was
compared with what `lorasmith bake` makes of the same file.

exact: within 1e-5 of the change. wrong: it changes the weights otherwise. partly: exact where it
applies it, but not on all layers. refused: it says so, or leaves it out. diffusers was not run
there: its column is held by the tests of `inspect` and `convert`.
"""

from __future__ import annotations

READERS = {
    "AUTOMATIC1111": "1.10.1",
    "Forge": "dfdcbab6",
    "ComfyUI": "a125cd84",
    "sd-scripts": "48d368fa",
    "lycoris-lora": "f49d30d",
    "diffusers": "0.42.1",
}
"""The programs, and the version or commit that was tried."""

FORMS = {
    "lora": "LoRA",
    "lora rs": "LoRA with rs_lora",
    "lora tucker": "LoCon in Tucker form",
    "lora dora in": "DoRA with lengths of inputs",
    "lora dora out": "DoRA with lengths of outputs",
    "lora tucker dora in": "LoCon in Tucker form, DoRA of inputs",
    "lora tucker dora out": "LoCon in Tucker form, DoRA of outputs",
    "loha": "LoHa",
    "loha tucker": "LoHa in Tucker form",
    "loha dora in": "LoHa, DoRA of inputs",
    "loha dora out": "LoHa, DoRA of outputs",
    "lokr": "LoKr, the large factor low-rank",
    "lokr full": "LoKr of two whole factors",
    "lokr both": "LoKr of two low-rank factors",
    "lokr w1 pair": "LoKr, the small factor alone low-rank",
    "lokr tucker": "LoKr in Tucker form",
    "lokr dora in": "LoKr, DoRA of inputs",
    "lokr dora out": "LoKr, DoRA of outputs",
    "lokr tucker dora in": "LoKr in Tucker form, DoRA of inputs",
    "lokr tucker dora out": "LoKr in Tucker form, DoRA of outputs",
    "ia3 out": "(IA)³ of outputs",
    "ia3 in": "(IA)³ of inputs",
    "oft": "OFT",
    "oft loose": "OFT, a constraint out of reach",
    "oft bound": "OFT, a constraint that binds",
    "oft rescaled": "OFT rescaled",
    "oft loose rescaled": "OFT rescaled, a constraint out of reach",
    "oft bound rescaled": "OFT rescaled, a constraint that binds",
    "boft": "BOFT",
    "boft loose": "BOFT, a constraint out of reach",
    "boft bound": "BOFT, a constraint that binds",
    "boft rescaled": "BOFT rescaled",
    "boft loose rescaled": "BOFT rescaled, a constraint out of reach",
    "boft bound rescaled": "BOFT rescaled, a constraint that binds",
    "full": "whole differences (LyCORIS' full)",
    "full bias": "whole differences of weight and bias",
}
"""Every form that was tried, and what it is called."""

# In the order of READERS.
_TABLE = """
lora                   exact   exact   exact   exact   exact   exact
lora_rs                exact   exact   exact   exact   exact   exact
lora_tucker            exact   exact   exact   wrong   exact   refused
lora_dora_in           exact   exact   exact   wrong   refused wrong
lora_dora_out          wrong   wrong   wrong   wrong   exact   wrong
lora_tucker_dora_in    exact   exact   exact   wrong   refused refused
lora_tucker_dora_out   wrong   wrong   wrong   wrong   exact   refused
loha                   exact   exact   exact   refused exact   refused
loha_tucker            exact   exact   exact   refused exact   refused
loha_dora_in           exact   exact   exact   refused refused refused
loha_dora_out          wrong   wrong   wrong   refused exact   refused
lokr                   exact   exact   exact   refused exact   refused
lokr_full              exact   exact   exact   refused exact   refused
lokr_both              exact   exact   exact   refused exact   refused
lokr_w1_pair           exact   exact   exact   refused refused refused
lokr_tucker            exact   refused refused refused refused refused
lokr_dora_in           exact   exact   exact   refused refused refused
lokr_dora_out          wrong   wrong   wrong   refused exact   refused
lokr_tucker_dora_in    exact   refused refused refused refused refused
lokr_tucker_dora_out   wrong   refused refused refused refused refused
ia3_out                exact   refused refused refused refused refused
ia3_in                 exact   refused refused refused refused refused
oft                    exact   refused exact   refused exact   refused
oft_loose              exact   refused exact   refused exact   refused
oft_bound              exact   refused wrong   refused exact   refused
oft_rescaled           exact   refused wrong   refused exact   refused
oft_loose_rescaled     exact   refused wrong   refused exact   refused
oft_bound_rescaled     exact   refused wrong   refused exact   refused
boft                   exact   refused exact   refused exact   refused
boft_loose             exact   refused exact   refused exact   refused
boft_bound             exact   refused wrong   refused exact   refused
boft_rescaled          exact   refused exact   refused exact   refused
boft_loose_rescaled    exact   refused exact   refused exact   refused
boft_bound_rescaled    exact   refused wrong   refused exact   refused
full                   exact   exact   exact   refused partly  refused
full_bias              partly  exact   exact   refused refused refused
"""

VERDICTS: dict[str, dict[str, str]] = {
    words[0].replace("_", " "): dict(zip(READERS, words[1:], strict=True))
    for line in _TABLE.strip().splitlines()
    if (words := line.split())
}


def verdict(form: str, reader: str) -> str:
    """exact, wrong, partly, refused; or untried, of a form that is not in the table.

    Forms that differ from tried ones by DoRA alone are what DoRA of that side is.
    """
    if form in VERDICTS:
        return VERDICTS[form][reader]
    base, mark, side = form.partition(" dora ")
    if not mark or base not in VERDICTS:
        return "untried"
    pair = {VERDICTS[base][reader], VERDICTS[f"lora dora {side}"][reader]}
    return next(word for word in ("refused", "wrong", "partly", "exact") if word in pair)
