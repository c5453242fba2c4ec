"""Arguments of the optimizer, the learning rates and the schedule."""

from __future__ import annotations

from lorasmith.config.optimizers import ALIASES, DOTTED, OPTIMIZERS, optimizer_facts
from lorasmith.config.values import PAIRS, optimizer_args
from lorasmith.core.text import did_you_mean
from lorasmith.importers.sd_scripts.argument import ConversionBuilder, by, dropped, same

# Names of sd-scripts, in any letters' case; what is not a row of ours is a class by its path.
NAMES: dict[str, str] = {
    **{name.lower(): name for name in OPTIMIZERS},
    **{name.lower(): right for name, right in ALIASES.items()},
    "dadaptation": ALIASES["DAdaptAdamPreprint"],
}

# What sd-scripts takes from torch.optim by its bare name.
OF_TORCH = ("Adadelta", "Adagrad", "Adam", "Adamax", "NAdam", "RAdam", "RMSprop", "SGD")

NOTES = {
    "dadaptation": "sd-scripts runs D-Adaptation's first form by this name; DAdaptAdam is later",
    "sdgnesterov": "a slip of the pen in guides",
    "sdgnesterov8bit": "a slip of the pen in guides",
}

SCHEDULES = (
    *("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts"),
    *("polynomial", "inverse_sqrt"),
)
OTHER_NAMES = {
    "cosineannealing": "cosine", "cosineannealinglr": "cosine", "cosinewithwarmup": "cosine",
    "cosineannealingwarmrestarts": "cosine_with_restarts",
    "cosineannealingwithrestarts": "cosine_with_restarts",
    "cosinewithhardrestarts": "cosine_with_restarts", "cosinerestarts": "cosine_with_restarts",
    "constantlr": "constant", "constantwarmup": "constant_with_warmup",
    "warmupconstant": "constant_with_warmup", "linearwithwarmup": "linear", "poly": "polynomial",
    "polynomiallr": "polynomial", "polynomialdecay": "polynomial", "inversesqrt": "inverse_sqrt",
    "rex": "rex",
}  # fmt: skip
"""What others call the schedules, without underscores and in small letters."""

NOT_HERE = {
    "piecewise_constant": "take constant, or cosine_with_restarts",
    "warmup_stable_decay": "take constant_with_warmup, or rex in a settings file",
    "reduce_lr_on_plateau": "take cosine",
}


def optimizer(m: ConversionBuilder) -> None:
    name = _optimizer_name(m)
    if name is None:
        return
    args = _args(m, name)
    if args:
        m.take("optimizer_args", args)
    sets_its_own = optimizer_facts(name).sets_its_own_lr(args)
    if sets_its_own:
        for rate in ("learning_rate", "unet_lr", "text_encoder_lr"):
            m.drop(rate, "AdaFactor sets its own learning rate (relative_step)")
    _rates(m, quiet=sets_its_own)
    _schedule(m, name, sets_its_own)


def _optimizer_name(m: ConversionBuilder) -> str | None:
    options = [
        name for name in ("optimizer_type", "use_8bit_adam", "use_lion_optimizer") if m.has(name)
    ]
    if len(options) > 1:
        names = " and ".join(m.shown(name) for name in options)
        m.refuse(options[1], f"{names} name two optimizers", "keep one of them")
        return None
    if not options:
        m.take("optimizer_type", "AdamW")
        return "AdamW"
    if options[0] != "optimizer_type":
        name = "AdamW8bit" if options[0] == "use_8bit_adam" else "Lion"
        m.put(
            "optimizer.name", name, options[0], note=f"the old way to say --optimizer_type {name}"
        )
        return name
    value = str(m.value("optimizer_type"))
    name, note = NAMES.get(value.lower(), ""), NOTES.get(value.lower(), "")
    if not name and value in OF_TORCH:
        name = f"torch.optim.{value}"
    if not name and DOTTED.fullmatch(value):
        name = value
    if not name:
        optimizers = {each.lower(): each for each in (*OPTIMIZERS, *OF_TORCH)}
        m.refuse(
            "optimizer_type",
            f"{value!r} is no optimizer of sd-scripts",
            did_you_mean(value.lower(), optimizers, "write a class as module.Class", most=2),
        )
        return None
    m.take("optimizer_type", name, note=note)
    return name


def _args(m: ConversionBuilder, name: str) -> dict[str, object]:
    texts = m.value("optimizer_args") or []
    try:
        args = optimizer_args(texts)
    except ValueError as error:
        m.refuse("optimizer_args", str(error), "write key=value, numbers with a point")
        return {}
    for key, value in args.items():
        if isinstance(value, tuple) and key not in PAIRS:
            m.refuse(
                "optimizer_args",
                f"{key}={','.join(map(str, value))} is not one number",
                "write numbers with a point",
            )
    if name == "AdaFactor" and args.get("warmup_init") and args.get("relative_step") is False:
        args["relative_step"] = True
        m.note(
            "warmup_init=True relative_step=False",
            "warmup_init needs relative_step=True, "
            "which sd-scripts sets then, and so it is set here",
        )
    return args


def _rates(m: ConversionBuilder, *, quiet: bool) -> None:
    text_rate = _text_encoder_rate(m)
    rates = {"unet": m.value("unet_lr"), "text_encoder": text_rate}
    default = m.value("learning_rate")
    trained = {
        "unet": not m.has("network_train_text_encoder_only"),
        "text_encoder": not m.has("network_train_unet_only"),
    }
    if not any(trained.values()):
        m.refuse(
            "network_train_unet_only",
            "and --network_train_text_encoder_only leave nothing to train",
            "keep one of them",
        )
        return
    others = {"unet": "network_train_text_encoder_only", "text_encoder": "network_train_unet_only"}
    for part, is_trained in trained.items():
        name = f"{part}_lr"
        if not is_trained:
            m.put(f"adapter.{part}", False, others[part])
            m.drop(name, f"the {part.replace('_', ' ')} is not trained")
        elif (default if rates[part] is None else rates[part]) == 0:
            source = name if name in m.given else "learning_rate"
            m.put(f"adapter.{part}", False, source, note="a rate of 0 leaves it out, as there")
        elif rates[part] is not None and not quiet:
            m.put(f"optimizer.{part}_lr", rates[part], name)
    if not quiet:
        m.take("learning_rate", default)


def _text_encoder_rate(m: ConversionBuilder) -> float | None:
    rates = m.value("text_encoder_lr")
    if not rates:
        return None
    first: float = rates[0]
    if len(set(rates)) > 1 and m.sdxl:
        m.refuse(
            "text_encoder_lr", "the text encoders have one learning rate here", "give one number"
        )
    elif len(set(rates)) > 1:
        m.note(m.shown("text_encoder_lr"), "the model has one text encoder; the first is taken")
    return first


def _schedule(m: ConversionBuilder, optimizer: str, sets_its_own: bool) -> None:
    scheduler = str(m.value("lr_scheduler")).strip()
    name, warmup = scheduler.lower(), m.value("lr_warmup_steps")
    reason = ""
    if sets_its_own:
        reason = "AdaFactor sets its own learning rate (relative_step)"
    elif optimizer_facts(optimizer).schedule_free:
        reason = f"{optimizer.rpartition('.')[2]} needs no schedule, and sd-scripts gives it none"
    if reason:
        m.take("lr_scheduler", "constant", note=reason)
        for other in ("lr_warmup_steps", "lr_scheduler_num_cycles", "lr_scheduler_power",
                      "lr_scheduler_type", "lr_scheduler_args"):  # fmt: skip
            m.drop(other, reason)
        return
    if m.value("lr_scheduler_type"):
        _schedule_class(m)
        return
    note = ""
    if name.partition(":")[0] == "adafactor":
        m.refuse(
            "lr_scheduler",
            "is of the optimizer AdaFactor with relative_step alone",
            "take constant_with_warmup",
        )
        return
    if name == "cosine_with_min_lr":
        name, note = "cosine", "with --lr_scheduler_min_lr_ratio"
        if m.value("lr_scheduler_num_cycles") != 1:
            m.refuse(
                "lr_scheduler_num_cycles", "cosine_with_min_lr goes down once here", "leave it out"
            )
        m.take("lr_scheduler_min_lr_ratio", m.value("lr_scheduler_min_lr_ratio") or 0.0)
    elif m.has("lr_scheduler_min_lr_ratio"):
        m.drop("lr_scheduler_min_lr_ratio", f"it does nothing with {name}; so it is in sd-scripts")
    if name not in SCHEDULES:
        name = OTHER_NAMES.get(name.replace("_", "").replace("-", "").rpartition(".")[2], "")
        note = f"what is meant by {scheduler}, which sd-scripts does not know by this name"
    if not name:
        _refuse_schedule(m, scheduler)
        return
    if m.value("lr_scheduler_args"):
        m.refuse(
            "lr_scheduler_args",
            f"{name} takes no free arguments here",
            "see [schedule] in docs/settings.md",
        )
    if name == "constant" and warmup:
        name = "constant_with_warmup"
        note = "constant has no warm-up, and sd-scripts stops there; this is what is meant"
    m.take("lr_scheduler", name, note=note)
    if warmup:
        m.take("lr_warmup_steps", warmup)
    _shape(m, name)


def _schedule_class(m: ConversionBuilder) -> None:
    """``--lr_scheduler_type``: a class of ``torch.optim.lr_scheduler``, or of another package.

    They count optimizer steps. What is known to be one of our shapes is taken for it.
    """
    class_path = str(m.value("lr_scheduler_type"))
    kind = class_path.rpartition(".")[2].lower()
    try:
        args = optimizer_args(m.value("lr_scheduler_args") or [])
    except ValueError as error:
        m.refuse("lr_scheduler_args", str(error), "write key=value, numbers with a point")
        return
    names = ("lr_scheduler_type", "lr_scheduler_args")
    steps = None if m.has("max_train_epochs") else m.value("max_train_steps")
    is_complete = True
    if kind == "cosineannealinglr":
        period = _whole(args.pop("T_max", None))
        if period is None or period == steps:
            m.put("schedule.name", "cosine", *names)
        else:
            note = f"down in {period} steps and up again in as many, whatever the run's length"
            m.put("schedule.name", "cosine_annealing", *names, note=note)
            m.put("schedule.timescale", period, "lr_scheduler_args")
        is_complete = _floor(m, args.pop("eta_min", 0.0))
    elif kind == "cosineannealingwarmrestarts" and args.get("T_mult", 1) == 1:
        args.pop("T_mult", None)
        period = _whole(args.pop("T_0", None))
        if period is None or steps is None or steps % period:
            m.refuse(
                "lr_scheduler_args",
                "restarts come at equal parts of the run here, not after T_0 steps",
                "give --max_train_steps and a T_0 that divides it",
            )
            return
        m.put("schedule.name", "cosine_with_restarts", *names)
        m.put("schedule.cycles", steps // period, "lr_scheduler_args", "max_train_steps")
        is_complete = _floor(m, args.pop("eta_min", 0.0))
    elif kind == "polynomiallr" and _whole(args.get("total_iters")) == steps and steps:
        args.pop("total_iters")
        m.put("schedule.name", "polynomial", *names)
        m.put("schedule.power", args.pop("power", 1.0), "lr_scheduler_args")
    elif kind == "rex":
        m.put("schedule.name", "rex", *names)
    elif kind == "constantlr" and args.pop("factor", 1 / 3) == 1:
        args.pop("total_iters", None)
        m.put("schedule.name", "constant", *names)
    else:
        m.refuse(
            "lr_scheduler_type",
            f"{class_path} is not one of the schedules here",
            f"take the nearest --lr_scheduler: {', '.join(SCHEDULES)}",
        )
        return
    for name in ("last_epoch", "verbose"):
        args.pop(name, None)
    if args and is_complete:
        m.refuse("lr_scheduler_args", f"{', '.join(args)}: has no counterpart here", "leave it out")
    if "lr_scheduler" in m.given:
        m.drop("lr_scheduler", "--lr_scheduler_type decides; so it is in sd-scripts")
    for name in ("lr_scheduler_num_cycles", "lr_scheduler_power", "lr_scheduler_timescale",
                 "lr_scheduler_min_lr_ratio", "lr_decay_steps"):  # fmt: skip
        m.drop(name, "it does nothing with --lr_scheduler_type")
    if m.value("lr_warmup_steps"):
        m.take("lr_warmup_steps")
        why = "sd-scripts stops at a warm-up beside --lr_scheduler_type; here there is one"
        m.note(m.shown("lr_warmup_steps"), why)


def _whole(value: object) -> int | None:
    """A number of steps among a class's arguments."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value >= 1 and float(value).is_integer() else None


def _floor(m: ConversionBuilder, rate: object) -> bool:
    """``eta_min``, a learning rate, as a share of the run's; whether it could be told."""
    if not rate:
        return True
    settings = m.result.settings
    rates = {
        settings[path].value if path in settings else m.value("learning_rate")
        for part in ("unet", "text_encoder")
        for path in [f"optimizer.{part}_lr"]
        if f"adapter.{part}" not in settings
    }
    if len(rates) == 1 and isinstance(rate, int | float) and 0 < rate <= min(rates):
        m.put("schedule.min_ratio", rate / rates.pop(), "lr_scheduler_args")
        return True
    m.refuse(
        "lr_scheduler_args",
        f"eta_min={rate} is another share of each part's learning rate",
        "give one --learning_rate, or eta_min=0",
    )
    return False


def _shape(m: ConversionBuilder, name: str) -> None:
    """What some schedules have of their own."""
    for argument, path, schedule in (
        ("lr_scheduler_num_cycles", "schedule.cycles", "cosine_with_restarts"),
        ("lr_scheduler_power", "schedule.power", "polynomial"),
        ("lr_scheduler_timescale", "schedule.timescale", "inverse_sqrt"),
    ):
        if name == schedule:
            if m.value(argument) is not None:
                m.put(path, m.value(argument), argument)
        else:
            m.drop(argument, f"it does nothing with {name}")
    if name == "cosine_with_restarts" and m.value("lr_scheduler_num_cycles") == 1:
        m.note(
            "cosine_with_restarts with one cycle",
            "does not restart: it is plain cosine; sd-scripts' default, and so it is kept",
        )
    m.drop("lr_decay_steps", f"it does nothing with {name}")


def _refuse_schedule(m: ConversionBuilder, name: str) -> None:
    near = did_you_mean(name.lower(), SCHEDULES, f"take one of {', '.join(SCHEDULES)}")
    m.refuse("lr_scheduler", f"{name!r} is no schedule here", NOT_HERE.get(name.lower(), near))


OPTIMIZER = (
    by(optimizer, "optimizer_type", "text", "", "optimizer.name"),
    by(optimizer, "use_8bit_adam", "flag", False, "optimizer.name"),
    by(optimizer, "use_lion_optimizer", "flag", False, "optimizer.name"),
    by(optimizer, "optimizer_args", "texts", None, "optimizer.args"),
    by(optimizer, "learning_rate", "number", 2e-6, "optimizer.lr"),
    by(optimizer, "unet_lr", "number", None, "optimizer.unet_lr"),
    by(optimizer, "text_encoder_lr", "numbers", None, "optimizer.text_encoder_lr"),
    by(optimizer, "network_train_unet_only", "flag", False, "adapter.text_encoder"),
    by(optimizer, "network_train_text_encoder_only", "flag", False, "adapter.unet"),
    same("max_grad_norm", "number", 1.0, "optimizer.max_grad_norm"),
    by(optimizer, "lr_scheduler", "text", "constant", "schedule.name"),
    by(optimizer, "lr_warmup_steps", "share", 0, "schedule.warmup"),
    by(optimizer, "lr_decay_steps", "share", 0, "schedule.*"),
    by(optimizer, "lr_scheduler_num_cycles", "whole", 1, "schedule.cycles"),
    by(optimizer, "lr_scheduler_power", "number", 1.0, "schedule.power"),
    by(optimizer, "lr_scheduler_timescale", "whole", None, "schedule.timescale"),
    by(optimizer, "lr_scheduler_min_lr_ratio", "number", None, "schedule.min_ratio"),
    by(optimizer, "lr_scheduler_type", "text", "", "schedule.name"),
    by(optimizer, "lr_scheduler_args", "texts", None, "schedule.*"),
    dropped(
        "fused_backward_pass", "flag", False,
        "it saves memory where a whole model is trained; a LoRA's gradients take next to none",
    ),
)  # fmt: skip
