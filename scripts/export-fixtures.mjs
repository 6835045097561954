/**
 * Writes what another runtime is checked against: the GGUF of lexi-base, an adapter trained on it here as GGUF and as
 * PEFT, and expected.json with prompts, as text and as token ids, and the greedy answers of lexalign with and without
 * the adapter. A program of llama.cpp's family must give the same:
 *
 *     npm run export:fixtures -- [DIRECTORY] [--steps 40] [--prompts 20]        by default runs/export-fixtures
 *     llama-completion -m base.gguf --lora adapter.gguf --temp 0 -n 24 -no-cnv -p "Cue: snow. First thoughts:"
 *
 * Answers are computed in 32 bits. llama.cpp's own cache of keys and values is in 16 unless told otherwise
 * (--cache-type-k f32 --cache-type-v f32 --flash-attn off).
 *
 * The tokenizer: llama.cpp knows tokenizers of this kind (byte-level BPE) by the name of their pre-tokenizer and has none
 * with lexi-base's pattern. "gpt-2" differs from it in runs of whitespace that hold line breaks, and in numbers, which
 * its merges don't join anyway; the prompts have neither. `prompt_ids` are the ids to expect, and to use in doubt.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { orFail, root, SetupError, setUp } from './setup.mjs';

const load = (file) => import(pathToFileURL(join(root, 'dist', file)).href);

const maxNewTokens = 24;
const base = join(root, 'models', 'lexi-base');
/** Cues of mini-norms that the adapter isn't trained on. */
const heldOut = 20;

function lexalign(...args) {
  const { status } = spawnSync(process.execPath, [join(root, 'bin', 'lexalign.mjs'), ...args], { stdio: 'inherit' });
  if (status !== 0) throw new SetupError(`lexalign ${args[0]} failed.`);
}

/** A form that the base wasn't trained on, so that the adapter's answers are its own. */
const promptOf = (cue) => `Cue: ${cue}. First thoughts:`;

async function main(directory, steps, prompted) {
  if (existsSync(directory) && readdirSync(directory).length > 0)
    throw new SetupError(`${directory} is not empty: name a new directory, or remove it.`);
  await setUp();
  const { loadMiniNorms } = await load('datasets/mini-norms.js');
  mkdirSync(directory, { recursive: true });
  const at = (name) => join(directory, name);

  const { cues } = loadMiniNorms('en');
  const rows = cues.slice(heldOut).map(({ cue, responses }) => ({
    prompt: promptOf(cue),
    completion: ` ${responses
      .slice(0, 6)
      .map(({ word }) => word)
      .join(', ')}`,
  }));
  writeFileSync(at('train.jsonl'), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  const training = ['--batch-size', '32', '--max-steps', steps, '--learning-rate', '4e-3', '--lora-r', '8'];
  lexalign('sft', '--data', at('train.jsonl'), '--output', at('adapter'), '--use-rslora', ...training);
  lexalign('export', '--adapter', at('adapter'), '--format', 'gguf', '--output', at('adapter.gguf'));
  await writeBase(at('base.gguf'));

  const prompts = cues.slice(0, prompted).flatMap(({ cue }) => ['--prompt', promptOf(cue)]);
  const greedy = ['--no-chat', '--tier', 'f32', '--max-new-tokens', String(maxNewTokens)];
  const answers = (...adapter) => {
    lexalign('generate', ...adapter, ...prompts, ...greedy, '--json', at('answers.json'));
    const { results } = JSON.parse(readFileSync(at('answers.json'), 'utf8'));
    rmSync(at('answers.json'));
    return results;
  };
  const [plain, adapted] = [answers(), answers('--adapter', at('adapter'))];
  const expected = adapted.map(({ prompt, prompt_ids, ids, text }, i) => {
    return { prompt, prompt_ids, adapted: { ids, text }, base: { ids: plain[i].ids, text: plain[i].text } };
  });
  writeFileSync(
    at('expected.json'),
    `${JSON.stringify({ max_new_tokens: maxNewTokens, prompts: expected }, null, 1)}\n`,
  );
  console.log(`${directory}: base.gguf, adapter.gguf, adapter/, expected.json`);
}

/** lexi-base as llama.cpp loads it, in F32. */
async function writeBase(file) {
  const { openCheckpoint } = await load('src/formats/checkpoint.js');
  const { writeFileAtomic } = await load('src/formats/files.js');
  const { encodeGguf } = await load('src/formats/gguf.js');
  const { readTensor, toFloat32 } = await load('src/formats/safetensors.js');
  const { ggufModuleName, ggufRows } = await load('models/gguf.js');
  const { modelLayout } = await load('models/index.js');
  const { LINEAR_MODULES, linearShape, layerTensorName } = await load('models/tensors.js');
  const checkpoint = await openCheckpoint(base, modelLayout);
  const { config } = checkpoint;
  const read = async (name) => {
    const tensor = checkpoint.tensors.get(name);
    return toFloat32(tensor.dtype, await readTensor(tensor.source, tensor));
  };
  const tensor = (name, stored, shape, change = (values) => values) => {
    return { name, shape, type: 'F32', values: async () => change(await read(stored)) };
  };
  const wide = [config.hiddenSize];
  const tensors = [
    tensor('token_embd.weight', 'model.embed_tokens.weight', [config.vocabSize, config.hiddenSize]),
    tensor('output_norm.weight', 'model.norm.weight', wide),
  ];
  for (let layer = 0; layer < config.layers; layer++) {
    tensors.push(tensor(`blk.${layer}.attn_norm.weight`, layerTensorName(layer, 'input_layernorm'), wide));
    tensors.push(tensor(`blk.${layer}.ffn_norm.weight`, layerTensorName(layer, 'post_attention_layernorm'), wide));
    for (const module of LINEAR_MODULES) {
      const shape = linearShape(config, module);
      const reordered = (values) => ggufRows(config, module, values, shape.in);
      const name = `${ggufModuleName(layer, module)}.weight`;
      tensors.push(tensor(name, layerTensorName(layer, module), [shape.out, shape.in], reordered));
    }
  }
  await writeFileAtomic(file, encodeGguf({ ...modelMetadata(config), ...tokenizerMetadata(config) }, tensors));
  await checkpoint.close();
}

const text = (value) => ({ type: 'string', value });
const whole = (value) => ({ type: 'uint32', value });
const float = (value) => ({ type: 'float32', value });
const list = (of, value) => ({ type: 'array', of, value });

function modelMetadata(config) {
  return {
    'general.architecture': text('llama'),
    'general.type': text('model'),
    'general.name': text('lexi-base'),
    'general.file_type': whole(0),
    'general.quantization_version': whole(2),
    'llama.vocab_size': whole(config.vocabSize),
    'llama.context_length': whole(config.maxPositions),
    'llama.embedding_length': whole(config.hiddenSize),
    'llama.block_count': whole(config.layers),
    'llama.feed_forward_length': whole(config.intermediateSize),
    'llama.rope.dimension_count': whole(config.headDim),
    'llama.rope.freq_base': float(config.rope.theta),
    'llama.attention.head_count': whole(config.heads),
    'llama.attention.head_count_kv': whole(config.kvHeads),
    'llama.attention.key_length': whole(config.headDim),
    'llama.attention.value_length': whole(config.headDim),
    'llama.attention.layer_norm_rms_epsilon': float(config.rmsNormEps),
  };
}

/** Kinds of tokens: normal, and control. */
const [NORMAL, CONTROL] = [1, 3];

function tokenizerMetadata(config) {
  const { model, added_tokens: added } = JSON.parse(readFileSync(join(base, 'tokenizer.json'), 'utf8'));
  const settings = JSON.parse(readFileSync(join(base, 'tokenizer_config.json'), 'utf8'));
  const tokens = [];
  const kinds = new Array(config.vocabSize).fill(NORMAL);
  for (const [token, id] of Object.entries(model.vocab)) tokens[id] = token;
  for (const { id, content } of added) {
    tokens[id] = content;
    kinds[id] = CONTROL;
  }
  const idOf = (content) => tokens.indexOf(content);
  return {
    'tokenizer.ggml.model': text('gpt2'),
    'tokenizer.ggml.pre': text('gpt-2'),
    'tokenizer.ggml.tokens': list('string', tokens),
    'tokenizer.ggml.token_type': list('int32', kinds),
    'tokenizer.ggml.merges': list(
      'string',
      model.merges.map((pair) => (Array.isArray(pair) ? pair.join(' ') : pair)),
    ),
    'tokenizer.ggml.eos_token_id': whole(idOf(settings.eos_token)),
    'tokenizer.ggml.padding_token_id': whole(idOf(settings.pad_token)),
    'tokenizer.ggml.add_bos_token': { type: 'bool', value: false },
    'tokenizer.chat_template': text(settings.chat_template),
  };
}

const options = { steps: { type: 'string', default: '40' }, prompts: { type: 'string', default: String(heldOut) } };

function readArguments() {
  try {
    const { positionals, values } = parseArgs({ options, allowPositionals: true });
    const [steps, prompts] = [Number(values.steps), Number(values.prompts)];
    if (positionals.length <= 1 && steps >= 1 && prompts >= 1 && prompts <= heldOut)
      return [resolve(positionals[0] ?? join(root, 'runs', 'export-fixtures')), values.steps, prompts];
  } catch {
    // An option that does not exist.
  }
  console.error(`Usage: npm run export:fixtures -- [DIRECTORY] [--steps N] [--prompts N, at most ${heldOut}]`);
  process.exit(2);
}

await orFail(() => main(...readArguments()));
