// What the Node contenders share: keys by their SHA-256, as a careful team would keep them.
import { hash } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** Reads a file of keys and ids, one of each a line. @returns a function from a presented key to its id, or undefined */
export function readKeyTable(file) {
  const ids = new Map();
  for (const line of readFileSync(file, 'utf8').trim().split('\n')) {
    const [key, id] = line.split(' ');
    ids.set(hash('sha256', key, 'base64'), id);
  }
  return (key) => (typeof key === 'string' ? ids.get(hash('sha256', key, 'base64')) : undefined);
}
