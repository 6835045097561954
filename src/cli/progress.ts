export interface Progress {
  /** `share` of the whole, 0 to 1. */
  update(share: number, text: string): void;
  /** A line that stays. */
  line(text: string): void;
  end(): void;
}

/** A bar on a terminal; elsewhere a plain line now and then (the first, the last, and every tenth of the way). */
export function createProgress(): Progress {
  const { stderr } = process;
  let shown = -1;
  let barred = false;
  const wipe = () => {
    if (barred) stderr.write('\r\x1b[K');
    barred = false;
  };
  return {
    update(share, text) {
      if (stderr.isTTY) {
        const width = 20;
        const filled = Math.round(share * width);
        const line = `${'█'.repeat(filled)}${'░'.repeat(width - filled)} ${text}`;
        stderr.write(`\r\x1b[K${line.slice(0, (stderr.columns ?? 100) - 1)}`);
        barred = true;
        return;
      }
      const tenth = Math.floor(share * 10);
      if (tenth === shown) return;
      shown = tenth;
      console.error(text);
    },
    line(text) {
      wipe();
      console.error(text);
    },
    end: wipe,
  };
}
