import { setFlagsFromString } from 'node:v8';

/**
 * Suits V8's garbage collector to a process that serves requests beside all that it remembers of keys. It holds for the whole
 * process, and comes too late for what was busy before.
 */
export function suitGarbageCollection(): void {
  // By itself V8 begins to collect all garbage, the whole heap through, after each 64 MiB that were read into buffers, however
  // few of them are still in use: with large bodies several times a second, each time past every key that is remembered.
  // Bodies of 256 KiB went through at half the cost with their memory weighed together with the heap's.
  setFlagsFromString('--external-memory-accounted-in-global-limit');
  // When many objects that one place in the code made have survived, V8 makes all later ones of that place among the old at once,
  // and does not think again while most of what is old is in use. So it was with all that a request is made of, once requests had
  // waited while keys were used for the first time. What was left of a request was found only by searching the whole heap, and
  // until then kept alive whatever young objects it pointed to: of all memory that was asked for a fifth was copied twice, in
  // pauses of 10 ms and more instead of 0.5.
  setFlagsFromString('--no-allocation-site-pretenuring');
}
