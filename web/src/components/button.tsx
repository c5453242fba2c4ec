import type { ButtonHTMLAttributes, ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { problemsOf } from "../api/client";
import { Icon, type IconName } from "./icons";
import { sayProblems } from "./notices";

interface Props extends Omit<ButtonHTMLAttributes<HTMLButtonElement>, "onClick" | "icon"> {
  kind?: "plain" | "primary" | "quiet" | "danger";
  icon?: IconName;
  /** Of a button that shows an icon alone. */
  label?: string;
  /** What it does; while a promise of it is open the button waits, and what it throws is said. */
  onClick?: (event: MouseEvent) => unknown;
  children?: ComponentChildren;
}

export function Button({ kind = "plain", icon, label, onClick, children, class: more, disabled, ...rest }: Props) {
  const [busy, setBusy] = useState(false);
  async function click(event: MouseEvent) {
    const result = onClick?.(event);
    if (!(result instanceof Promise)) return;
    setBusy(true);
    try {
      await result;
    } catch (error) {
      sayProblems(problemsOf(error));
    } finally {
      setBusy(false);
    }
  }
  const only = icon && !children ? "only-icon" : "";
  return (
    <button
      type="button"
      {...rest}
      class={`button ${kind} ${only} ${more ?? ""}`}
      disabled={disabled || busy}
      aria-busy={busy || undefined}
      aria-label={label}
      title={rest.title ?? label}
      onClick={click}
    >
      {icon && <Icon name={icon} />}
      {children}
    </button>
  );
}
