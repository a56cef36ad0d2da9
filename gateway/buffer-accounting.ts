import { setFlagsFromString } from 'node:v8';

/**
 * Has V8 weigh the memory of buffers together with that of the heap. By itself it begins to collect all garbage, the
 * whole heap through, after each 64 MiB that were read into buffers, however few of them are still in use: with large
 * bodies several times a second, each time past every key that is remembered. Bodies of 256 KiB went through at half the
 * cost with it, and memory stayed the same. It holds for the whole process, also for what is running already.
 */
export function weighBuffersWithHeap(): void {
  setFlagsFromString('--external-memory-accounted-in-global-limit');
}
