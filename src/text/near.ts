/** Edits between two words: insertions, deletions, substitutions (Levenshtein 1966). */
export function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length];
}

/** Those of `known` that are nearest in spelling to `word`, case aside, the nearest first. */
export function nearest(word: string, known: Iterable<string>, most: number): string[] {
  const own = word.toLowerCase();
  return [...known]
    .map((name) => ({ name, distance: editDistance(own, name.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance)
    .slice(0, most)
    .map(({ name }) => name);
}
