// What pages show only when it is asked for, and whose code is loaded then.
import { both, lazily } from "../lazily";
import { styled } from "../styled";

export const Chooser = lazily(async () => (await import("./chooser")).Chooser, false);
export const CopyIn = lazily(async () => (await import("./copy_in")).CopyIn, false);
/** What draws curves is larger than most pages. */
export const Curves = lazily(async () => (await both(import("./curves"), styled("curves"))).Curves, false);
