import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { InputError, UsageError } from '../errors.js';

const maxBytes = 1 << 20;

/**
 * Options from a YAML file, by long option name. A file may hold the options themselves or sections, of which the
 * command's own is taken. Keys may be written with - or _; TRL's per_device_train_batch_size and
 * gradient_accumulation_steps are understood (their product is the batch size). Unknown keys are errors.
 */
export function readConfigFile(file: string, command: string, known: ReadonlySet<string>): Record<string, unknown> {
  let value: unknown;
  try {
    const text = readFileSync(file, 'utf8');
    if (text.length > maxBytes) throw new Error(`it is larger than ${maxBytes} bytes`);
    value = parse(text, { maxAliasCount: 100 });
  } catch (error) {
    throw new InputError(`--config ${file} cannot be read: ${(error as Error).message.split('\n')[0]}`);
  }
  if (!isRecord(value)) throw new InputError(`--config ${file} must hold options as "key: value".`);
  const section = isRecord(value[command]) ? value[command] : value;
  const options: Record<string, unknown> = {};
  for (const [key, entry] of Object.entries(section)) {
    const name = key.replaceAll('_', '-');
    if (['data', 'sft', 'ppo', 'evaluate'].includes(key) && isRecord(entry)) continue;
    if (name === 'per-device-train-batch-size' || name === 'gradient-accumulation-steps') {
      if (typeof entry !== 'number') throw new InputError(`--config ${file}: ${key} must be a number.`);
      options['batch-size'] = Number(options['batch-size'] ?? 1) * entry;
      continue;
    }
    if (!known.has(name))
      throw new UsageError(`--config ${file}: unknown option ${key} for ${command}; see lexalign ${command} --help.`);
    options[name] = Array.isArray(entry) ? entry.join(',') : entry;
  }
  return options;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
