import { join } from 'node:path';
import { describeCounts, describeDropped } from '../evaluate/table-text.js';
import { writeFileAtomic } from '../formats/files.js';
import { table } from './model-card.js';

/** What an imported data set is made of. */
export interface DataCard {
  readonly source: string;
  readonly title: string;
  /** Origin, licence, reference. */
  readonly about: string;
  readonly inputs: readonly FileDigest[];
  readonly choices: Readonly<Record<string, unknown>>;
  readonly counts: Readonly<Record<string, number>>;
  /** Responses, rows or questions left out, by reason. */
  readonly dropped: Readonly<Record<string, number>>;
  readonly split: readonly {
    readonly name: string;
    readonly percent: number;
    readonly cues: number;
    readonly rows: number;
  }[];
}

export interface FileDigest {
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** Writes card.json and README.md into a data set's directory; gives the summary for the terminal. */
export async function writeDataCard(
  directory: string,
  card: DataCard & { readonly outputs: readonly FileDigest[] },
): Promise<string[]> {
  await writeFileAtomic(join(directory, 'card.json'), `${JSON.stringify(card, null, 2)}\n`);
  await writeFileAtomic(join(directory, 'README.md'), markdown(card));
  return summary(card);
}

const show = (n: number) => n.toLocaleString('en-US');

function summary({ source, inputs, counts, dropped, split }: DataCard): string[] {
  return [
    `${source}: ${inputs.map(({ file }) => file).join(', ')}`,
    `  ${describeCounts(counts)}`,
    `  dropped: ${describeDropped(dropped)}`,
    ...split.map(({ name, cues, rows }) => `  ${name}: ${show(cues)} cues, ${show(rows)} rows`),
  ];
}

function markdown(card: DataCard & { readonly outputs: readonly FileDigest[] }): string {
  const counted = (counts: Readonly<Record<string, number>>) =>
    Object.entries(counts).map(([what, n]) => [what, `${n}`]);
  const digests = (files: readonly FileDigest[]) =>
    table(
      ['file', 'bytes', 'SHA-256'],
      files.map(({ file, bytes, sha256 }) => [file, `${bytes}`, sha256]),
    );
  const parts = [
    `# ${card.title}`,
    card.about,
    'Made by `lexalign data`. The terms of the source hold for this directory too.',
    `## Read\n\n${digests(card.inputs)}`,
    `## Counts\n\n${table(['what', 'how many'], counted(card.counts))}`,
    `## Left out\n\n${table(['why', 'how many'], counted(card.dropped))}`,
    ...(card.split.length > 0
      ? [
          `## Split by cue\n\n${table(
            ['part', 'percent', 'cues', 'rows'],
            card.split.map(({ name, percent, cues, rows }) => [name, `${percent}`, `${cues}`, `${rows}`]),
          )}`,
        ]
      : []),
    `## Choices\n\n\`\`\`json\n${JSON.stringify(card.choices, null, 2)}\n\`\`\``,
    `## Written\n\n${digests(card.outputs)}`,
  ];
  return `${parts.join('\n\n')}\n`;
}
