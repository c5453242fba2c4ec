"""Arguments of the noise and of the loss."""

from __future__ import annotations

from lorasmith.importers.sd_scripts.argument import ConversionBuilder, by, same


def min_snr(m: ConversionBuilder) -> None:
    m.take("min_snr_gamma", m.value("min_snr_gamma") or None)


def adaptive_noise(m: ConversionBuilder) -> None:
    scale = m.value("adaptive_noise_scale")
    if m.value("noise_offset"):
        if scale:
            m.take("adaptive_noise_scale")
    elif scale and "noise_offset" not in m.given:
        m.refuse(
            "adaptive_noise_scale",
            "needs --noise_offset; sd-scripts stops there too",
            "add --noise_offset 0.05",
        )
    else:
        m.drop("adaptive_noise_scale", "it does nothing without --noise_offset")


def multires_discount(m: ConversionBuilder) -> None:
    if m.value("multires_noise_iterations"):
        m.take("multires_noise_discount")
    else:
        m.drop("multires_noise_discount", "it does nothing without --multires_noise_iterations")


def huber(m: ConversionBuilder) -> None:
    if m.value("loss_type") in ("huber", "smooth_l1"):
        m.take("huber_c")
        m.take("huber_schedule")
        if m.value("huber_schedule") == "snr":
            m.drop("huber_scale", "sd-scripts does not use it with --huber_schedule snr")
        else:
            m.take("huber_scale")
    else:
        for name in ("huber_c", "huber_schedule", "huber_scale"):
            m.drop(name, f"it does nothing with --loss_type {m.value('loss_type')}")


def scale_v(m: ConversionBuilder) -> None:
    if m.has("scale_v_pred_loss_like_noise_pred"):
        if m.has("v_parameterization"):
            m.take("scale_v_pred_loss_like_noise_pred", True)
        else:
            m.refuse(
                "scale_v_pred_loss_like_noise_pred",
                "is for models that predict velocity; sd-scripts stops there too",
                "add --v_parameterization, or leave it out",
            )


def timesteps(m: ConversionBuilder) -> None:
    for name, default in (("min_timestep", 0), ("max_timestep", 1000)):
        value = m.value(name)
        if value is not None and (value or name == "min_timestep"):
            m.put(f"loss.{name}", value, name)
        elif value is not None:
            m.drop(name, f"0 is not said, so {default} as ever")


def prior(m: ConversionBuilder) -> None:
    m.put_unless_ours("loss.prior_weight", m.value("prior_loss_weight"), "prior_loss_weight")
    m.fix("preservation.enabled", False, "the base model's output is not kept")


LOSS = (
    by(min_snr, "min_snr_gamma", "number", None, "loss.min_snr_gamma"),
    same("noise_offset", "number", None, "loss.noise_offset", on=True),
    same(
        "noise_offset_random_strength", "flag", False, "loss.noise_offset_random",
        on=True, needs="noise_offset",
    ),
    by(adaptive_noise, "adaptive_noise_scale", "number", None, "loss.adaptive_noise_scale"),
    same("multires_noise_iterations", "whole", None, "loss.multires_iterations", on=True),
    by(multires_discount, "multires_noise_discount", "number", 0.3, "loss.multires_discount"),
    same("ip_noise_gamma", "number", None, "loss.input_perturbation", on=True),
    same(
        "ip_noise_gamma_random_strength", "flag", False, "loss.input_perturbation_random",
        on=True, needs="ip_noise_gamma",
    ),
    same("zero_terminal_snr", "flag", False, "loss.zero_terminal_snr"),
    same("loss_type", "text", "l2", "loss.type", "l1", "l2", "huber", "smooth_l1"),
    by(huber, "huber_c", "number", 0.1, "loss.huber_c"),
    by(huber, "huber_schedule", "text", "snr", "loss.huber_schedule"),
    by(huber, "huber_scale", "number", 1.0, "loss.huber_scale"),
    same("debiased_estimation_loss", "flag", False, "loss.debiased"),
    by(scale_v, "scale_v_pred_loss_like_noise_pred", "flag", False, "loss.scale_v_like_noise"),
    same("v_pred_like_loss", "number", None, "loss.v_like", on=True),
    by(timesteps, "min_timestep", "whole", None, "loss.min_timestep"),
    by(timesteps, "max_timestep", "whole", None, "loss.max_timestep"),
    by(prior, "prior_loss_weight", "number", 1.0, "loss.prior_weight"),
)  # fmt: skip
