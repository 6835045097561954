import { execFileSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { importAssociations } from '../../datasets/import-associations.js';
import { readLexicon } from '../../datasets/lexicon.js';
import { ParticipantFilter } from '../../datasets/participants.js';
import type { AssociationSource, LexiconSource } from '../../datasets/source.js';
import { InputError } from '../../src/errors.js';
import { itWith, sharedPath } from '../text/shared.js';

import { sourceOf, write } from './source-files.js';

async function read(
  name: string,
  lines: readonly string[],
  choice: { country?: string[]; native?: string[]; positions?: number[] } = {},
) {
  const source = sourceOf<AssociationSource>(name);
  const filter = new ParticipantFilter(choice.country ?? [], choice.native ?? []);
  const positions = choice.positions ?? null;
  const imported = await importAssociations([write(lines)], source, { filter, positions }, 'xx');
  const { norms, counts } = imported;
  const lists = norms.cues.map(({ cue, responses }) => [
    cue,
    ...responses.map(({ word, count }) => `${word} ${count}`),
  ]);
  return { lists, counts, positions: imported.positions };
}

/** The layout of SWOW-EN.R100: row names without a header, quoted texts, NA for what is missing. */
const participants = [
  '"","id","participantID","created_at","age","gender","nativeLanguage","country","education","section","cue","R1","R2","R3"',
  '"1",1,10,"2020-01-01 00:00:00",30,"Fe","United States","United States",NA,"set1","moon","night","Star","cheese, blue"',
  '"2",2,11,"2020-01-01 00:00:00",31,"Ma","German","Germany",NA,"set1","moon","star","night",NA',
  '"3",3,12,"2020-01-01 00:00:00",32,"X","Canada","Canada",4,"set1","moon","Moon","#Unknown","#Missing"',
  '"4",4,12,"2020-01-01 00:00:00",32,"X","Canada","Canada",4,"set1","null","nan","0123456789abcdef0123456789ABCDEF",""',
];

describe('associations', () => {
  test('participants of SWOW are pooled, cleaned and counted; ties keep their first order', async () => {
    const { lists, counts } = await read('swow-en', participants);
    expect(lists).toEqual([
      ['moon', 'night 2', 'star 2', 'cheese, blue 1'],
      ['null', 'nan 1'],
    ]);
    expect(counts).toEqual({
      rows: 4,
      cues: 2,
      responses: 6,
      types: 4,
      pairs: 4,
      dropped: { 'rows of other participants': 0, missing: 3, empty: 1, 'the cue itself': 1, 'an identifier': 1 },
    });
  });

  test('countries, native languages and positions choose', async () => {
    const german = await read('swow-en', participants, { country: ['germany'] });
    expect(german.lists).toEqual([['moon', 'star 1', 'night 1']]);
    expect(german.counts.dropped['rows of other participants']).toBe(3);
    const first = await read('swow-en', participants, { native: ['United States', 'German'], positions: [1] });
    expect(first.lists).toEqual([['moon', 'night 1', 'star 1']]);
    await expect(read('swow-en', participants, { country: ['Untied States'] })).rejects.toThrow(
      /--country Untied States is not in .*csv; near it are United States, /,
    );
    await expect(read('lwow', ['src,tgt,wt', 'a,b,1'], { country: ['Spain'] })).rejects.toThrow(
      /holds no participants/,
    );
    const pooled = [
      ['lwow', 'src,tgt,wt', 'a,b,1'],
      ['usf', 'CUE,TARGET,#P', 'a,b,1'],
      ['generic', 'cue,response,count', 'a,b,1'],
      ['generic', 'cue,response', 'a,b'],
    ];
    for (const [name, ...lines] of pooled)
      await expect(read(name, lines, { positions: [1] }), name).rejects.toThrow(
        /csv does not tell first responses from later: leave --responses out/,
      );
    const twice = ['cue,R1Raw,R2,R1', 'sea,Wave,ship,wave'];
    await expect(read('generic', twice)).rejects.toThrow(
      /csv has two columns of response 1, R1Raw and R1, which would count each twice: leave one out/,
    );
    expect((await read('generic', twice, { positions: [2] })).lists).toEqual([['sea', 'ship 1']]);
    expect(await read('generic', ['cue,R1,R2', 'sea,wave,ship'], { positions: [2] })).toMatchObject({
      lists: [['sea', 'ship 1']],
      positions: [2],
    });
  });

  test.each<[string, readonly string[], number[] | null, number[]?]>([
    ['swow-en', participants, [1, 2, 3]],
    ['swow-en', participants, [1, 2], [1, 2]],
    ['swow-en', ['cue\tresponse\tR123', 'a\tb\t1'], [1, 2, 3]],
    ['swow-en', ['cue\tresponse\tR1\tR123', 'a\tb\t1\t2'], [1], [1]],
    ['generic', ['cue,R1,R2', 'a,b,c'], [1, 2]],
    ['generic', ['cue,response', 'a,b'], null],
    ['usf', ['CUE,TARGET,#P', 'a,b,1'], null],
    ['lwow', ['src,tgt,wt', 'a,b,1'], null],
  ])('%s, %j: responses %j are pooled', async (name, lines, pooled, positions) => {
    expect((await read(name, lines, { positions })).positions).toEqual(pooled);
  });

  test.each([
    [
      'swow-en',
      ['cue\tresponse\tR123\tN\tR123.Strength', 'sea\t"blue" wave\t3\t9\t0.3', 'sea\t"a ""b"""\t6\t9\t0.6'],
      ['sea', 'a "b" 6', '"blue" wave 3'],
    ],
    [
      'swow-zh',
      ['cue,response,R123,N,R123.Strength', '海,蓝色,3,9,0.33', '海,"船, 帆",6,9,0.66'],
      ['海', '船, 帆 6', '蓝色 3'],
    ],
    [
      'swow-zh',
      ['participantID,age,gender,cue,R1,R2,R3', '1,20,Fe,海,蓝色,船,#Missing', '2,30,Ma,海,ＡＢＣ,船,NA'],
      ['海', '船 2', '蓝色 1', 'abc 1'],
    ],
    ['swow-rp', ['cue,response,R123,N,R123.Strength', 'mar,ola,3,9,0.33'], ['mar', 'ola 3']],
    [
      'swow-nl',
      ['"pp";"age";"cue";"asso1";"asso2";"asso3"', '"1";"20";"zee";"golf";"x";"schip"'],
      ['zee', 'golf 1', 'schip 1'],
    ],
    [
      'usf',
      [
        '<HTML><BODY><PRE>',
        'CUE, TARGET, NORMED?, #G, #P, FSG, BSG',
        'SEA, WAVE, YES, 150, 30, 0.200, \u00a5',
        'SEA, SHIP, NO, 150, 45, 0.300, 0.1, 7',
        '</PRE></BODY></HTML>',
      ],
      ['sea', 'ship 45', 'wave 30'],
    ],
    ['lwow', ['src,tgt,wt', 'sea,wave,3'], ['sea', 'wave 3']],
    ['generic', ['Cue;R1Raw;R2Raw', 'sea;wave;ship', 'sea;ship;'], ['sea', 'ship 2', 'wave 1']],
    ['generic', ['note,response,cue', '-,wave,sea', '-,wave,sea'], ['sea', 'wave 2']],
  ])('%s reads %j', async (name, lines, list) => {
    expect((await read(name, lines)).lists).toEqual([list]);
  });

  test.each<[RegExp, string, readonly string[]]>([
    [
      /has no column "R123"; it has cue, response, R1, N: say which responses it counts, as --responses 1/,
      'swow-en',
      ['cue\tresponse\tR1\tN', 'a\tb\t1\t1'],
    ],
    [/has no column "R3"; it has cue, R1, R2/, 'swow-en', ['cue,R1,R2', 'a,b,c']],
    [/has no column "tgt"; it has src, wt/, 'lwow', ['src,wt', 'a,1']],
    [/no association is left of 1 rows/, 'lwow', ['src,tgt,wt', 'a,A,1']],
    [/line 2: wt must be a positive number, not "0"/, 'lwow', ['src,tgt,wt', 'a,b,0']],
  ])('says %s', async (sentence, name, lines) => {
    await expect(read(name, lines)).rejects.toThrow(sentence);
    await expect(read(name, lines)).rejects.toThrow(InputError);
  });

  test('a file in another encoding is refused with the mend', async () => {
    const gb = Buffer.concat([Buffer.from('cue,response\n'), Buffer.from([0xba, 0xa3, 0x2c, 0xc0, 0xb6, 10])]);
    const choice = { filter: new ParticipantFilter([], []), positions: null };
    const generic = sourceOf<AssociationSource>('generic');
    await expect(importAssociations([write(gb)], generic, choice, 'zh')).rejects.toThrow(
      /line 2 is not UTF-8 text: save/,
    );
  });
});

describe('lexicons', () => {
  const lexicon = async (name: string, lines: readonly string[]) => {
    const { lexicon, dropped } = await readLexicon(write(lines), sourceOf<LexiconSource>(name));
    return { dropped, size: lexicon.size, dimensions: [...lexicon.dimensions].map(([key, map]) => [key, ...map]) };
  };

  test('of Warriner and Brysbaert in their layouts, and any other', async () => {
    expect(
      await lexicon('warriner', [
        ',Word,V.Mean.Sum,V.SD.Sum,A.Mean.Sum,D.Mean.Sum',
        '1,Moon,6.5,1,3.5,5.25',
        '2,moon,1,1,1,1',
        '3,void,NA,1,,NA',
      ]),
    ).toEqual({
      dropped: { 'a word again': 1, 'no rating': 1 },
      size: 1,
      dimensions: [
        ['valence', ['moon', 6.5]],
        ['arousal', ['moon', 3.5]],
        ['dominance', ['moon', 5.25]],
      ],
    });
    expect(
      (await lexicon('brysbaert', ['Word\tBigram\tConc.M\tConc.SD', 'full moon\t1\t4.5\t0.9'])).dimensions,
    ).toEqual([['concreteness', ['full moon', 4.5]]]);
    expect((await lexicon('word-norms', ['word;Valence;Weight', '海;0.5;x'])).dimensions).toEqual([
      ['valence', ['海', 0.5]],
      ['weight'],
    ]);
    // Words are found as answers are read: without a final stop.
    expect((await lexicon('word-norms', ['word;valence', 'U.S.A.;2'])).dimensions).toEqual([['valence', ['u.s.a', 2]]]);
  });

  test('refuses what holds none', async () => {
    await expect(lexicon('warriner', ['Word,V.Mean.Sum,A.Mean.Sum', 'a,1,1'])).rejects.toThrow(
      /no column "D.Mean.Sum"/,
    );
    await expect(lexicon('word-norms', ['word,note', 'a,b'])).rejects.toThrow(/no word has a rating in note/);
  });
});

describe('real files by others', () => {
  const awk = (program: string, file: string) =>
    execFileSync('awk', ['-F,', program, file], { encoding: 'utf8' }).trim().split(' ').map(Number);
  const read = async (name: string, file: string) => {
    const choice = { filter: new ParticipantFilter([], []), positions: null };
    const { counts } = await importAssociations([file], sourceOf<AssociationSource>(name), choice, 'xx');
    const { rows, cues, responses, types, pairs, dropped } = counts;
    return [rows, cues, responses, types, pairs, dropped['the cue itself'], dropped['an identifier']];
  };

  itWith('data/lwow-en/FA_Haiku_edgelist.csv')('LWOW: the counts are those of awk', async () => {
    const file = sharedPath('data/lwow-en/FA_Haiku_edgelist.csv');
    const program = `NR > 1 && $1 == $2 {own += $3} NR > 1 && $1 != $2 {c[$1]; r += $3; t[$2]; n++}
      END {print NR - 1, length(c), r, length(t), n, own + 0, 0}`;
    expect(await read('lwow', file)).toEqual(awk(program, file));
  });

  itWith('data/swow-gpt-zh/SWOW-GPT_raw.csv')(
    'Mandarin rows of three responses: the counts are those of awk',
    async () => {
      const file = sharedPath('data/swow-gpt-zh/SWOW-GPT_raw.csv');
      const program = `NR > 1 {gsub(/["\\r]/, "")
      # Spellings that Unicode (NFKC) calls one: radicals, and spaces around.
      gsub(/⾁/, "肉"); gsub(/⽅/, "方"); gsub(/⼉/, "儿"); gsub(/\u2002/, "")
      for (i = 2; i <= 4; i++) {
      w = tolower($i)
      # What stands around some words and is none of them.
      gsub(/^(\\*|>|·|》)+|(\\*|”|_|;)+$/, "", w)
      if (w == $1) own++
      else if (length(w) == 32 && w !~ /[^0-9a-f]/) hex++
      else {r++; c[$1]; t[w]; p[$1 "," w]}
    }} END {print NR - 1, length(c), r, length(t), length(p), own, hex}`;
      expect(await read('generic', file)).toEqual(awk(program, file));
    },
  );
});
