import { createHmac, randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { corrupt, readOrWrite } from './files.ts';
import { machineId } from './machine-id.ts';

/** A device as the seller's server knows it. */
export type Device = { id: string; name: string };

/**
 * This machine, for one product. Its id is a keyed hash (HMAC-SHA-256) of the machine's own id with the product's: the same
 * each time, and useless for recognising the machine with another product, or for finding out the machine's id.
 *
 * @param folder where a random id is kept when the system has none
 * @param name how people recognise it; the host name when `null`
 * @param system the id that the system gives; `null`: it gives none
 */
export async function thisDevice(
  folder: string,
  product: string,
  name: string | null,
  system: string | null = machineId(),
): Promise<Device> {
  const machine = system ?? (await randomMachineId(folder));
  const id = createHmac('sha256', machine).update(`tollgate device\0${product}`).digest('hex').slice(0, 32);
  return {
    id,
    name:
      (name ?? hostname())
        .replace(/\p{Cc}/gu, '')
        .trim()
        .slice(0, 64) || 'unnamed',
  };
}

async function randomMachineId(folder: string): Promise<string> {
  const path = join(folder, 'machine-id');
  const kept = await readOrWrite(path, `${randomBytes(16).toString('hex')}\n`);
  const [, id] = /^([0-9a-f]{32})\n$/.exec(kept) ?? [];
  if (id === undefined) throw corrupt(path, 'it is not an id');
  return id;
}
