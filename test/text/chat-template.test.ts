import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.js';
import { compileChatTemplate } from '../../src/text/chat-template.js';
import { itWith, sharedPath } from './shared.js';

const turns = [
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: 'red' },
  { role: 'assistant', content: 'danger' },
];
const bos = { bos_token: '<|begin_of_text|>' };
const official = async (name: string) =>
  compileChatTemplate(await readFile(sharedPath(`tokenizers/chat-templates/${name}.jinja`), 'utf8'), name, bos);
const itOfficial = itWith('tokenizers/chat-templates');

describe('compileChatTemplate', () => {
  itOfficial('renders the official templates', async () => {
    const llama = (date: string) =>
      '<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n' +
      `Today Date: ${date}\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nred<|eot_id|>` +
      '<|start_header_id|>assistant<|end_header_id|>\n\n';
    const llama31 = await official('meta-llama-Llama-3.1-8B-Instruct');
    expect(llama31.render(turns.slice(0, 2), true)).toBe(llama('26 Jul 2024'));
    expect(llama31.usesDate).toBe(false);
    expect(llama31.render(turns, false)).toBe(`${llama('26 Jul 2024')}danger<|eot_id|>`);
    const llama32 = await official('meta-llama-Llama-3.2-3B-Instruct');
    expect(llama32.render(turns.slice(0, 2), true, new Date(2025, 2, 7))).toBe(llama('07 Mar 2025'));
    expect(llama32.usesDate).toBe(true);
    const chatml = '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nred<|im_end|>\n<|im_start|>assistant\n';
    expect((await official('Qwen-Qwen2.5-7B-Instruct')).render(turns, false)).toBe(`${chatml}danger<|im_end|>\n`);
    const qwen3 = await official('Qwen-Qwen3-0.6B');
    expect(qwen3.render(turns.slice(0, 2), true)).toBe(`${chatml}<think>\n\n</think>\n\n`);
    for (const template of [llama31, llama32, qwen3]) expect(template.foldsSystem).toBe(false);
    expect(qwen3.render(turns, false)).toBe(`${chatml}<think>\n\n</think>\n\ndanger<|im_end|>\n`);
  });

  it('ends lines by LF in a file with CRLF, as Jinja does', () => {
    const source = "{% for message in messages %}\n{{ message.role + '\\r\\n' }}\n{% endfor %}\nend\n";
    const [unix, windows] = [source, source.replaceAll('\n', '\r\n')].map((text) =>
      compileChatTemplate(text, 'x', bos).render(turns, false),
    );
    expect(unix).toBe('user\r\n\nassistant\r\n\nend');
    expect(windows).toBe(unix);
  });

  it('gives templates no tools and no documents, as transformers does', () => {
    const source =
      '{% if tools is not none %}A{% endif %}{% if tools is defined %}B{% endif %}{% if documents %}C{% endif %}';
    expect(compileChatTemplate(source, 'x.jinja', {}).render(turns, true)).toBe('B');
  });

  it('folds a system turn into the question only where one would be lost', () => {
    const all = '{% for m in messages %}{{ m.role }}={{ m.content }};{% endfor %}';
    const kept = compileChatTemplate(all, 'x.jinja', {});
    expect(kept.foldsSystem).toBe(false);
    expect(kept.render(turns, false)).toBe('system=Be brief.;user=red;assistant=danger;');
    const strict = compileChatTemplate(
      `{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}${all}`,
      'x.jinja',
      {},
    );
    expect(strict.foldsSystem).toBe(true);
    expect(strict.render(turns, false)).toBe('user=Be brief.\n\nred;assistant=danger;');
    // What is not a system turn before a question stays, for the template to refuse.
    expect(() => strict.render([turns[0], turns[2]], false)).toThrow("x.jinja can't be rendered: no");
    expect(strict.render(turns.slice(1), false)).toBe('user=red;assistant=danger;');
  });

  it('shows templates all fields of messages, and refuses to add an object to text, as Jinja does', () => {
    const render = (source: string, fields: object) =>
      compileChatTemplate(source, 'x.jinja', {}).render([{ ...turns[1], ...fields }], false);
    const call = '{{ messages[0].tool_calls[0].arguments | tojson }}';
    expect(render(call, { tool_calls: [{ arguments: { a: [1, '[object Map]'] } }] })).toBe(
      '{"a": [1, "[object Map]"]}',
    );
    expect(render("{{ 'x' + messages[0].arguments }}", { arguments: '{"a": 1}' })).toBe('x{"a": 1}');
    for (const sum of ["{{ 'x' + messages[0].arguments }}", "{{ messages[0].arguments ~ 'x' }}"])
      expect(() => render(sum, { arguments: { a: 1 } })).toThrow(
        new InputError('x.jinja can\'t be rendered: it adds an object to text, without "tojson"'),
      );
  });

  it('reports what a template refuses', () => {
    const template = compileChatTemplate('{{ raise_exception("no system role") }}', 'x.jinja', {});
    expect(() => template.render(turns, true)).toThrow(new InputError("x.jinja can't be rendered: no system role"));
  });

  it.each([
    '{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}',
    '{{ range(10000000000) }}',
    '{% set n = namespace(s="ab") %}{% for i in range(40) %}{% set n.s = n.s + n.s %}{% endfor %}',
    '{% set n = namespace(s=[1, 2]) %}{% for i in range(40) %}{% set n.s = n.s + n.s %}{% endfor %}',
    '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}',
  ])('ends a template that would take all time or memory: %s', (source) => {
    const start = performance.now();
    expect(() => compileChatTemplate(source, 'x.jinja', {}).render(turns, true)).toThrow(InputError);
    expect(performance.now() - start).toBeLessThan(60_000);
  });

  it('refuses blanks without end, which take the library a time that grows with the square of their number', () => {
    for (const source of [' '.repeat(900_000), `a${'\n'.repeat(900_000)}{%- x %}`])
      expect(() => compileChatTemplate(source, 'x.jinja', {})).toThrow(/^x\.jinja has more than 2000 blanks in a row/);
  });

  itOfficial('has room for long conversations', async () => {
    const long = Array.from({ length: 400 }, (_, i) => ({
      role: i % 2 ? 'assistant' : 'user',
      content: 'word '.repeat(200),
    }));
    expect((await official('Qwen-Qwen3-0.6B')).render(long, true).length).toBeGreaterThan(400_000);
  });

  it('gives templates no way to JavaScript', () => {
    const render = (source: string) => {
      try {
        return compileChatTemplate(source, 'x.jinja', {}).render(turns, true);
      } catch {
        return '';
      }
    };
    for (const source of [
      '{{ messages.constructor }}',
      '{{ messages.__proto__ }}',
      '{{ raise_exception.constructor("return 7")() }}',
      '{{ process }}{{ globalThis }}{{ require }}',
    ]) {
      expect(render(source), source).toBe('');
    }
  });
});
