export * from '../random.js';
