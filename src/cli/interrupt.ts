export interface Interrupt {
  /** Ctrl-C, SIGTERM or SIGHUP came. */
  readonly requested: boolean;
  remove(): void;
}

/** Ctrl-C, a service manager's, and that of a closed terminal. */
export const stopSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const listening = new Set<Interrupt>();

/**
 * Turns the first Ctrl-C into a request to stop at the next step; a second one quits at once with 130. A terminal that is
 * closed asks too, and mostly twice, by the system and by the shell. What begins within something that has been asked to
 * stop is asked too.
 */
export function onInterrupt(announce: () => void): Interrupt {
  let requested = [...listening].some((outer) => outer.requested);
  const handle = (signal: NodeJS.Signals) => {
    if (requested && signal === 'SIGHUP') return;
    if (requested) process.exit(130);
    requested = true;
    announce();
  };
  for (const signal of stopSignals) process.on(signal, handle);
  const interrupt = {
    get requested() {
      return requested;
    },
    remove() {
      listening.delete(interrupt);
      for (const signal of stopSignals) process.off(signal, handle);
    },
  };
  listening.add(interrupt);
  return interrupt;
}

/** Thrown where Ctrl-C ended what is worth nothing unless whole; the process exits with 130. */
export class Interrupted extends Error {}

/**
 * For what writes long into a file or directory that appears whole: Ctrl-C ends it at the next `check`, which throws
 * Interrupted, so that what is written goes again; a signal alone would leave it.
 */
export async function givingUpOnInterrupt<T>(work: (check: () => void) => Promise<T>): Promise<T> {
  const interrupt = onInterrupt(() => console.error('Interrupted: what is written is removed; again to quit at once.'));
  try {
    return await work(() => {
      if (interrupt.requested) throw new Interrupted();
    });
  } finally {
    interrupt.remove();
  }
}
