// A worker thread of src/formats/merge-pool.ts: merges the pieces that it is sent.

import { parentPort } from 'node:worker_threads';
import { InputError } from '../errors.js';
import { type MergePiece, mergePiece } from './merge.js';

parentPort!.on('message', (piece: MergePiece) => {
  try {
    const bytes = mergePiece(piece);
    parentPort!.postMessage({ bytes }, [bytes.buffer as ArrayBuffer]);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    parentPort!.postMessage({ refused: error.message });
  }
});
