/** Positional reads from something with a known size: a file, a blob, a buffer. */
export interface ByteSource {
  /** Shown in error messages: a path or a URL. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Fills `into` from `position`; throws InputError when the source ends before. */
  read(position: number, into: Uint8Array): Promise<void>;
  close(): Promise<void>;
}
