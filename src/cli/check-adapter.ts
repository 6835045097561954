import type { ArgumentsCamelCase, InferredOptionTypes, Options } from 'yargs';
import { ggufArchitecture } from '../../models/gguf.js';
import { linearShapes } from '../../models/tensors.js';
import { InputError } from '../errors.js';
import { type AdapterInspection, inspectAdapter } from '../formats/inspect-adapter.js';
import { readAdapter } from '../formats/peft.js';
import { type AdapterBase, findAdapterBase } from './adapter-base.js';
import type { Command } from './main.js';
import { checkJson, jsonOption, writeJson } from './output-file.js';

const options = {
  model: {
    type: 'string',
    describe: 'Its base model: a directory, or a name on the hub; by default the one that adapter_config.json names',
  },
  ...jsonOption,
} as const satisfies Record<string, Options>;
type Arguments = ArgumentsCamelCase<InferredOptionTypes<typeof options>> & { readonly directory: string };

export const checkAdapterCommand: Command = {
  command: 'check-adapter <directory>',
  describe: 'Say which base model and runtimes an adapter fits, and what is wrong with it',
  options,
  computes: false,
  positional: (args) =>
    args.positional('directory', { type: 'string', demandOption: true, describe: 'PEFT directory of an adapter' }),
  run: async (args) => ((await runCheck(args as unknown as Arguments)) ? 0 : 1),
};

/** How a runtime takes the adapter. */
interface Verdict {
  readonly runtime: string;
  readonly takes: 'as it is' | 'exported' | 'no';
  /** How, or why not. */
  readonly note: string;
}

/** Lines of findings that are shown; the rest is counted. */
const SHOWN = 10;

/** Prints what there is to say; whether lexalign can use the adapter. */
async function runCheck(args: Arguments): Promise<boolean> {
  await checkJson(args.json);
  const base = await findAdapterBase(args.directory, args.model, { weights: false });
  const inspection = await inspectAdapter(args.directory, base && linearShapes(base.config));
  const { errors, warnings, foreign } = inspection;
  // What readAdapter refuses beyond what PEFT and vLLM mind, such as adapters on some layers only.
  const refusal = base && errors.length + foreign.length === 0 ? await refusalOf(args.directory, base) : null;
  const unread = refusal ? [refusal] : foreign;
  const verdicts = judge(inspection, unread.length > 0, base, args.directory);
  if (args.json !== '-') {
    console.log(describe(args.directory, inspection));
    console.log(describeBase(inspection, base));
    for (const { runtime, takes, note } of verdicts) console.log(`${runtime.padEnd(10)} ${takes.padEnd(9)} ${note}`);
    list('Wrong', errors);
    list('Not for lexalign', unread);
    list('Odd', warnings);
  }
  const { config: _, modules, ...rest } = inspection;
  const result = {
    ...rest,
    foreign: unread,
    modules: Object.fromEntries(modules),
    base: base?.directory ?? null,
    verdicts,
  };
  await writeJson(args.json, result);
  return errors.length + unread.length === 0;
}

/** Why lexalign itself would not read it; null where it would. */
async function refusalOf(directory: string, base: AdapterBase): Promise<string | null> {
  try {
    await readAdapter(directory, linearShapes(base.config));
    return null;
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    return error.message;
  }
}

function list(title: string, sentences: readonly string[]): void {
  for (const sentence of sentences.slice(0, SHOWN)) console.log(`${title}: ${sentence}.`);
  if (sentences.length > SHOWN) console.log(`${title}: and ${sentences.length - SHOWN} more like these.`);
}

function describe(directory: string, { config, modules, dtypes, parameters }: AdapterInspection): string {
  const names = new Set([...modules.keys()].map((path) => path.slice(path.lastIndexOf('.') + 1)));
  const scale = config.use_rslora ? 'alpha / √r' : 'alpha / r';
  return (
    `${directory}: ${config.peft_type ?? 'no peft_type'}, r ${config.r ?? 8}, alpha ${config.lora_alpha ?? 8} (scale ${scale}), ` +
    `${modules.size} modules (${[...names].sort().join(', ') || 'none'}), ${(parameters / 1e6).toFixed(2)} M parameters, ${dtypes.join(', ') || 'no weights'}`
  );
}

/** What is known of the base model, and whether it fits. */
function describeBase({ config, modules, errors }: AdapterInspection, base: AdapterBase | null): string {
  const name = config.base_model_name_or_path ?? 'none named';
  if (base)
    return `Base model: ${name}, looked up in ${base.directory} (${base.config.architecture}): ${errors.length === 0 ? 'every tensor fits' : 'not all is well, see below'}`;
  const layers = [...modules.keys()].map((path) => Number(/\.layers\.(\d+)\./.exec(path)?.[1] ?? 0));
  const widths = ['q_proj', 'v_proj', 'gate_proj'].flatMap((module) => {
    const [, shape] = [...modules].find(([path]) => path.endsWith(`.${module}`)) ?? [];
    return shape ? [`${module} of [${shape.out}, ${shape.in}]`] : [];
  });
  return `Base model: ${name}, not here (--model DIR looks closer); it must have ${Math.max(0, ...layers) + 1} layers${widths.length > 0 ? `, ${widths.join(', ')}` : ''}`;
}

function judge(inspection: AdapterInspection, unread: boolean, base: AdapterBase | null, directory: string): Verdict[] {
  const refused = (runtime: string, note: string): Verdict => ({ runtime, takes: 'no', note });
  const peft: Verdict = { runtime: 'PEFT', takes: 'as it is', note: `PeftModel.from_pretrained(base, "${directory}")` };
  const exporters = ['llama.cpp', 'ollama', 'mlx-lm'];
  if (inspection.errors.length > 0)
    return ['lexalign', 'PEFT', 'vLLM', ...exporters].map((runtime) => refused(runtime, 'it is broken, see below'));
  if (unread)
    return [
      refused('lexalign', 'see below'),
      peft,
      judgeVllm(inspection),
      ...exporters.map((runtime) => refused(runtime, 'lexalign does not export it')),
    ];
  const exported = (format: string, output: string) =>
    `npx lexalign export --adapter ${directory} --format ${format} --output ${output}`;
  const known = base ? `, architecture ${ggufArchitecture(base.config)}` : '';
  return [
    { runtime: 'lexalign', takes: 'as it is', note: base ? `--adapter ${directory}` : 'if it fits its base' },
    peft,
    judgeVllm(inspection),
    {
      runtime: 'llama.cpp',
      takes: 'exported',
      note: `${exported('gguf', 'adapter.gguf')}; --lora adapter.gguf${known}`,
    },
    { runtime: 'ollama', takes: 'exported', note: 'the same file: ADAPTER adapter.gguf in a Modelfile' },
    { runtime: 'mlx-lm', takes: 'exported', note: `${exported('mlx', 'mlx-adapter')}; --adapter-path mlx-adapter` },
  ];
}

/** Values that vLLM takes for --max-lora-rank. */
const VLLM_RANKS = [8, 16, 32, 64, 128, 256, 320, 512];

/** vLLM reserves one rank for all adapters, and reads no patterns: it would scale every module alike. */
function judgeVllm({ config, modules, foreign }: AdapterInspection): Verdict {
  const refused = (note: string): Verdict => ({ runtime: 'vLLM', takes: 'no', note });
  if (foreign.length > 0) return refused('it takes plain LoRA alone');
  const pattern = ['rank_pattern', 'alpha_pattern'].find(
    (key) => Object.keys((config[key] ?? {}) as object).length > 0,
  );
  if (pattern) return refused(`it does not read ${pattern}: merge the adapter instead`);
  const rank = Math.max(...[...modules.values()].map(({ r }) => r));
  const least = VLLM_RANKS.find((most) => most >= rank);
  if (!least) return refused(`rank ${rank} is over its 512: merge the adapter instead`);
  return { runtime: 'vLLM', takes: 'as it is', note: `--enable-lora --max-lora-rank ${least}` };
}
