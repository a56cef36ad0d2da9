import { setFlagsFromString } from 'node:v8';

/**
 * Suits V8's garbage collector to a process that serves requests beside all that it remembers of keys. It holds for the whole
 * process, also for what is running already; to be called before there is much to do.
 */
export function suitGarbageCollection(): void {
  // By itself V8 begins to collect all garbage, the whole heap through, after each 64 MiB that were read into buffers, however
  // few of them are still in use: with large bodies several times a second, each time past every key that is remembered.
  // Bodies of 256 KiB went through at half the cost with their memory weighed together with the heap's.
  setFlagsFromString('--external-memory-accounted-in-global-limit');
  // By itself V8 makes what code has made of objects that lived long among those that live long from the beginning, and never
  // looks again. While keys are used for the first time, requests wait; from then on each was put there, to be found dead only
  // when the whole heap is searched, and until then kept all alive that it had pointed to: a fifth of all memory that was
  // asked for, moved twice, in pauses of ten milliseconds instead of half a one.
  setFlagsFromString('--no-allocation-site-pretenuring');
}
