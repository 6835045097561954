/** Finds a Debian mirror in apt's own configuration, so that set-up asks no host but those the machine already uses. */

interface Source {
  readonly uri: string;
  readonly suites: readonly string[];
  readonly components: readonly string[];
  readonly signedBy: string;
}

/** Entries of a one-line-style file (sources.list): `deb [option=value …] uri suite component…`. */
function parseOneLine(text: string): Source[] {
  const sources: Source[] = [];
  for (const line of text.split('\n')) {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)([^#]*)/.exec(line);
    if (!match) continue;
    const signedBy = /signed-by=(\S+)/i.exec(match[1] ?? '')?.[1] ?? '';
    sources.push({ uri: match[2], suites: [match[3]], components: match[4].trim().split(/\s+/), signedBy });
  }
  return sources;
}

/** Entries of a deb822-style file (*.sources): stanzas of fields, each of several words, continued by indentation. */
function parseDeb822(text: string): Source[] {
  const sources: Source[] = [];
  const withoutComments = text.replace(/^#.*\n?/gm, '');
  for (const stanza of withoutComments.split(/\n\s*\n/)) {
    const fields = new Map<string, string[]>();
    for (const [, name, value] of stanza.replace(/\n[ \t]+/g, ' ').matchAll(/^([\w-]+):[ \t]*(.*)$/gm))
      fields.set(name.toLowerCase(), value.trim().split(/\s+/));
    const words = (name: string) => fields.get(name) ?? [];
    if (!words('types').includes('deb') || words('enabled')[0] === 'no') continue;
    for (const uri of words('uris'))
      sources.push({
        uri,
        suites: words('suites'),
        components: words('components'),
        signedBy: words('signed-by').join(' '),
      });
  }
  return sources;
}

/**
 * URI of the Debian archive in apt's source files, or null. Third-party archives imitate its suites, so an entry needs
 * the release's own suite and component main, and one whose path ends in /debian or that Debian's keys sign wins.
 * @param codename the release of this machine, "bookworm"
 */
export function findDebianMirror(files: readonly { name: string; text: string }[], codename: string): string | null {
  const suites = [codename, 'oldstable', 'stable', 'testing', 'unstable', 'sid'];
  const candidates = files
    .flatMap(({ name, text }) => (name.endsWith('.sources') ? parseDeb822(text) : parseOneLine(text)))
    .filter((source) => /^(https?|file|ftp|mirror(\+\w+)?|tor\+https?):/.test(source.uri))
    .filter((source) => source.components.includes('main') && source.suites.some((suite) => suites.includes(suite)));
  const likeness = ({ uri, signedBy }: Source) =>
    (/\/debian\/?$/.test(uri) ? 1 : 0) + (signedBy.includes('debian-archive') ? 1 : 0);
  candidates.sort((a, b) => likeness(b) - likeness(a));
  return candidates[0]?.uri ?? null;
}
