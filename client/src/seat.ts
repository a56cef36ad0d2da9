import { TollgateError } from './error.ts';
import { isRefusal } from './renewal.ts';

/** A floating seat that is held. */
export type Seat = {
  /** Says no more that it is used: it frees itself after the time that the seller has set. */
  stop(): void;
};

/** However short or long a seller's times are, nobody is asked in a loop, and no timer is longer than Node can set one. */
const SHORTEST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 24 * 3_600_000;

type Holder = { heartbeat(): Promise<number | null>; activate(): Promise<unknown> };

/**
 * Says regularly that a seat is used, and takes it again after it was lost. Does not keep the program running.
 *
 * @param everyS how often the server has to hear of it, seconds; it does twice as often
 * @param onLost called once, when there is no seat (any more)
 */
export function holdSeat(holder: Holder, everyS: number, onLost: (error: TollgateError) => void): Seat {
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  const next = (seconds: number, notBeforeS = 0) => {
    if (stopped) return;
    const waitMs = Math.max(seconds / 2, notBeforeS) * 1000;
    timer = setTimeout(
      () => void beat(seconds),
      Math.min(LONGEST_WAIT_MS, Math.max(SHORTEST_WAIT_MS, waitMs)),
    );
    timer.unref();
  };
  const beat = async (seconds: number) => {
    let every = seconds;
    let notBeforeS = 0;
    try {
      every = (await holder.heartbeat()) ?? seconds;
    } catch (error) {
      // Nobody could be asked: the next time, perhaps.
      if (error instanceof TollgateError) notBeforeS = error.retryAfterSeconds ?? 0;
      const lost = await whyLost(holder, error);
      if (stopped) return;
      if (lost !== null) {
        stopped = true;
        onLost(lost);
        return;
      }
    }
    next(every, notBeforeS);
  };
  next(everyS);
  return {
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
  };
}

/**
 * Why a seat is lost for good; `null`: it is not. One that fell free while the device was away is taken again where it can be.
 * How long no more devices are activated is no reason to say less often that this one is there.
 */
async function whyLost(holder: Holder, error: unknown): Promise<TollgateError | null> {
  if (!(error instanceof TollgateError)) return null;
  if (error.code !== 'device_not_active') return isRefusal(error) ? error : null;
  try {
    await holder.activate();
    return null;
  } catch (refused) {
    return refused instanceof TollgateError && isRefusal(refused) ? refused : null;
  }
}
