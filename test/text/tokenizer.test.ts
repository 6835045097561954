import { execFileSync } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.js';
import { type Tokenizer, tryLoadTokenizer } from '../../src/text/tokenizer.js';
import {
  itWith,
  lexiBase,
  loadTokenizer,
  makeSentencePiece,
  makeTokenizer,
  type StartMark,
  sharedPath,
} from './shared.js';

const sample = 'Hello world, 你好 😀🏽 once\n\n  upon';

function stream(tokenizer: Tokenizer, ids: Int32Array): string[] {
  const decoder = tokenizer.streamDecoder();
  const pieces = Array.from(ids, (id) => decoder.push(id));
  return [...pieces, decoder.finish()];
}

describe('tryLoadTokenizer', () => {
  it('reads lexi-base and gives the ids its makers got', async () => {
    const tokenizer = await loadTokenizer(lexiBase);
    const { ids } = JSON.parse(await readFile(join(lexiBase, 'golden.json'), 'utf8'));
    const text = tokenizer.decode(ids, { skipSpecials: false });
    expect(text).toBe(
      '<|im_start|>user\nList words related to hospital.<|im_end|>\n<|im_start|>assistant\ndoctor, 医院',
    );
    expect([...tokenizer.encode(text, { specials: true })]).toEqual(ids);
    expect(tokenizer).toMatchObject({ vocabSize: 8192, bosId: null, eosId: 8191, hasChatTemplate: true });
    expect([...tokenizer.specialIds]).toEqual([8189, 8190, 8191]);
    expect(tokenizer.decode(ids.slice(0, 4), { skipSpecials: true })).toBe('user\nList');
    expect(tokenizer.tokenText(8191)).toBe('<|im_end|>');
    expect(tokenizer.decode([], { skipSpecials: true })).toBe('');
    expect(tokenizer.decode([9000, ids[1]], { skipSpecials: true })).toBe('user');
    expect(tokenizer.applyChatTemplate([{ role: 'user', content: 'hi' }], { addGenerationPrompt: true })).toBe(
      '<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n',
    );
  });

  it('keeps text whole, streamed or not', async () => {
    const tokenizer = await loadTokenizer(lexiBase);
    const ids = tokenizer.encode(sample, { specials: false });
    expect(tokenizer.decode(ids, { skipSpecials: true })).toBe(sample);
    const pieces = stream(tokenizer, ids);
    expect(pieces.join('')).toBe(sample);
    expect(pieces.join('|')).not.toContain('\uFFFD');
    const cut = tokenizer.encode('医院😀', { specials: false });
    expect(stream(tokenizer, cut.slice(0, -1)).join('')).toMatch(/^医院\uFFFD+$/);
  });

  itWith('tokenizers/qwen2.5')('reads a tokenizer of 151k entries', async () => {
    const tokenizer = await loadTokenizer(sharedPath('tokenizers/qwen2.5'));
    expect([...tokenizer.encode('Hello world', { specials: true })]).toEqual([9707, 1879]);
    expect(tokenizer).toMatchObject({ vocabSize: 151665, bosId: null, eosId: 151645 });
    expect(stream(tokenizer, tokenizer.encode(sample, { specials: true })).join('')).toBe(sample);
    const turns = [{ role: 'user', content: 'hi' }];
    const text = tokenizer.applyChatTemplate(turns, { addGenerationPrompt: true });
    expect(text).toContain('You are Qwen');
    expect([...tokenizer.encode(text, { specials: true })].slice(-3)).toEqual([151644, 77091, 198]);
  });

  itWith('models/stories260k')(
    'puts BOS first where the tokenizer does, and strips its leading space again',
    async () => {
      const tokenizer = await loadTokenizer(sharedPath('models/stories260k'));
      expect(tokenizer).toMatchObject({ vocabSize: 512, bosId: 1, eosId: 2, hasChatTemplate: false });
      const ids = tokenizer.encode('Once upon a time 你', { specials: true });
      expect(ids[0]).toBe(1);
      expect(tokenizer.encode('Once', { specials: false })[0]).not.toBe(1);
      expect(stream(tokenizer, ids).join('')).toBe('Once upon a time 你');
      expect(tokenizer.encodeContinuation(' a')).toEqual(tokenizer.encode('a', { specials: false }));
      expect(tokenizer.encodeContinuation(' upon')).toEqual(tokenizer.encode('upon', { specials: false }));
      const joined = tokenizer.encode('tea,', { specials: false });
      expect(tokenizer.encodeContinuation(',')).toEqual(joined.slice(-1));
      expect(tokenizer.encode(' a', { specials: false })).not.toEqual(tokenizer.encode('a', { specials: false }));
      expect(() => tokenizer.applyChatTemplate([], { addGenerationPrompt: true })).toThrow(/no chat template/);
    },
  );

  it.each<StartMark>(['prepend', 'first', 'always', 'never'])(
    'splits a continuation without the mark of a beginning: %s',
    async (mark) => {
      const directory = await makeSentencePiece(mark, ['dog', 'Paris']);
      const tokenizer = await loadTokenizer(directory);
      const { model } = JSON.parse(await readFile(join(directory, 'tokenizer.json'), 'utf8'));
      const names = new Map(Object.entries(model.vocab).map(([token, id]) => [id, token]));
      const pieces = (ids: Int32Array) => Array.from(ids, (id) => names.get(id));
      const alone = (text: string) => pieces(tokenizer.encode(text, { specials: false }));
      const continued = (text: string) => pieces(tokenizer.encodeContinuation(text));
      expect(alone('dog')).toEqual([mark === 'never' ? 'dog' : '▁dog']);
      expect(continued('dog')).toEqual(['dog']);
      expect(continued(' Paris')).toEqual(['▁Paris']);
      expect(continued(' dog dog</s>')).toEqual(['▁dog', '▁dog', '</s>']);
      expect(continued(', ')).toEqual([',', '▁']);
      expect(continued('\n:dog')).toEqual(['<0x0A>', ':', 'dog']);
      expect(continued('')).toEqual([]);
      expect(continued('你')).toEqual(['<0xE4>', '<0xBD>', '<0xA0>']);
    },
  );

  it('refuses a continuation that merges with any text before it', async () => {
    const tokenizer = await loadTokenizer(await makeSentencePiece('prepend', []));
    expect(() => tokenizer.encodeContinuation('b')).not.toThrow();
    const file = join(tokenizer.name, 'tokenizer.json');
    const definition = JSON.parse(await readFile(file, 'utf8'));
    definition.added_tokens.push(
      { id: 9000, content: '\na', special: false, normalized: false },
      { id: 9001, content: ':a', special: false, normalized: false },
    );
    await writeFile(file, JSON.stringify(definition));
    const merging = await loadTokenizer(tokenizer.name);
    expect(() => merging.encodeContinuation('ab')).toThrow(
      new InputError(`${file} merges "ab" with what stands before it, so it can't go on after other text`),
    );
  });

  it('finds the token with which the chat template ends a turn, though the tokenizer names another end', async () => {
    const base = { eos_token: '<|endoftext|>' };
    expect(await loadTokenizer(await makeTokenizer({ config: base }))).toMatchObject({ eosId: 8189, turnEndId: 8191 });
    const open = '{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}';
    const noEnd = await makeTokenizer({ config: { ...base, chat_template: open } });
    expect(await loadTokenizer(noEnd)).toMatchObject({ turnEndId: null });
    const refuses = await makeTokenizer({ config: { chat_template: '{{ raise_exception("no") }}' } });
    expect(await loadTokenizer(refuses)).toMatchObject({ turnEndId: null, foldsSystem: false });
    const none = await makeTokenizer({ config: { chat_template: null } });
    expect(await loadTokenizer(none)).toMatchObject({ turnEndId: null, foldsSystem: false });
  });

  it('follows add_bos_token of the config', async () => {
    const config = { add_bos_token: true, bos_token: { content: '<|endoftext|>' } };
    expect((await loadTokenizer(await makeTokenizer({ config }))).bosId).toBe(8189);
    const given = await loadTokenizer(await makeTokenizer({ config }));
    expect(given.encode('a', { specials: true })[0]).toBe(8189);
    expect(given.encode('<|endoftext|>a', { specials: true })).toEqual(given.encode('a', { specials: true }));
    const off = { ...config, add_bos_token: false };
    expect((await loadTokenizer(await makeTokenizer({ config: off }))).bosId).toBe(null);
  });

  it('finds the chat template in a named list or a file, the file first', async () => {
    const list = [
      { name: 'tool_use', template: 'tools' },
      { name: 'default', template: 'plain {{ messages[0].content }}' },
    ];
    const directory = await makeTokenizer({ config: { chat_template: list } });
    const turns = [{ role: 'user', content: 'hi' }];
    const named = await loadTokenizer(directory);
    expect(named.applyChatTemplate(turns, { addGenerationPrompt: false })).toBe('plain hi');
    const files = { 'chat_template.jinja': 'file {{ eos_token }}' };
    const both = await loadTokenizer(await makeTokenizer({ config: { chat_template: list }, files }));
    expect(both.applyChatTemplate(turns, { addGenerationPrompt: false })).toBe('file <|im_end|>');
    expect(both.digest).not.toBe(named.digest);
    expect((await loadTokenizer(directory)).digest).toBe(named.digest);
  });

  it('gives null for a directory without tokenizer files', async () => {
    const empty = await mkdtemp(join(tmpdir(), 'lexalign-empty-'));
    expect(await tryLoadTokenizer(empty)).toBe(null);
    expect(await tryLoadTokenizer(join(empty, 'absent'))).toBe(null);
  });

  it.each([
    ['tokenizer.json', '{"model": ', /tokenizer\.json is not valid JSON/],
    ['tokenizer.json', '['.repeat(1e6), /tokenizer\.json is not valid JSON: it is nested more than 100 deep/],
    ['tokenizer.json', '[]', /tokenizer\.json is not a JSON object/],
    ['tokenizer.json', '{}', /tokenizer\.json has no "model"/],
    ['tokenizer.json', '{"model": {"type": "BPE", "vocab": {"a": 4294967295}}}', /"a" has id 4294967295/],
    [
      'tokenizer.json',
      '{"model": {"type": "BPE", "vocab": {"a": 0}}, "added_tokens": [{"id": -1, "content": "b"}]}',
      /id -1/,
    ],
    ['tokenizer.json', '{"model": {"type": "Nope", "vocab": {"a": 0}}}', /model type "Nope" is not supported/],
    ['tokenizer.json', '{"model": {"type": "BPE", "vocab": {"a": 0}}}', /tokenizer\.json can't be used/],
    ['tokenizer_config.json', 'no', /tokenizer_config\.json is not valid JSON/],
    ['tokenizer_config.json', '{"eos_token": "<nowhere>"}', /eos_token "<nowhere>" is not in tokenizer\.json/],
    ['tokenizer_config.json', '{"chat_template": 3}', /tokenizer_config\.json, key chat_template is neither/],
    ['chat_template.jinja', '{% for %}', /chat_template\.jinja can't be rendered/],
  ])('refuses a bad %s: %s', async (name, text, message) => {
    const directory = await makeTokenizer({ files: { [name]: text } });
    const loading = loadTokenizer(directory);
    await expect(loading).rejects.toThrow(message);
    await expect(loading).rejects.toThrow(InputError);
  });

  it.each(['tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json', 'chat_template.jinja'])(
    'reads %s inside the directory only, and no device or pipe',
    async (name) => {
      const directory = await makeTokenizer();
      const file = join(directory, name);
      const outside = join(await mkdtemp(join(tmpdir(), 'lexalign-outside-')), name);
      await writeFile(outside, '{}');
      for (const target of ['/dev/zero', outside]) {
        await rm(file, { force: true });
        await symlink(target, file);
        await expect(loadTokenizer(directory), target).rejects.toThrow(/leads outside the directory/);
      }
      await rm(file);
      execFileSync('mkfifo', [file]);
      await expect(loadTokenizer(directory)).rejects.toThrow(`${file} is not a file`);
      await rm(file);
      await symlink('nowhere', file);
      await expect(loadTokenizer(directory)).rejects.toThrow(`${file} does not exist`);
    },
  );

  it("follows the links of a hub cache's snapshot", async () => {
    const repository = join(await mkdtemp(join(tmpdir(), 'lexalign-hub-')), 'models--a--b');
    const snapshot = join(repository, 'snapshots', 'abc');
    await mkdir(snapshot, { recursive: true });
    await mkdir(join(repository, 'blobs'));
    for (const name of ['tokenizer.json', 'tokenizer_config.json']) {
      await cp(join(lexiBase, name), join(repository, 'blobs', name));
      await symlink(`../../blobs/${name}`, join(snapshot, name));
    }
    expect((await loadTokenizer(snapshot)).vocabSize).toBe(8192);
  });
});
