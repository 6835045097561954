export interface Interrupt {
  /** Ctrl-C (or SIGTERM) came. */
  readonly requested: boolean;
  remove(): void;
}

/** Turns the first Ctrl-C into a request to stop at the next step; a second one quits at once with 130. */
export function onInterrupt(announce: () => void): Interrupt {
  let requested = false;
  const handle = () => {
    if (requested) process.exit(130);
    requested = true;
    announce();
  };
  process.on('SIGINT', handle);
  process.on('SIGTERM', handle);
  return {
    get requested() {
      return requested;
    },
    remove() {
      process.off('SIGINT', handle);
      process.off('SIGTERM', handle);
    },
  };
}
