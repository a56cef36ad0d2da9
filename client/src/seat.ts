import { TollgateError } from './error.ts';
import { isRefusal } from './renewal.ts';

/** A floating seat that is held. */
export type Seat = {
  /** Says no more that it is used: it frees itself after the time that the seller has set. */
  stop(): void;
};

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
  const next = (seconds: number) => {
    if (stopped) return;
    timer = setTimeout(() => void beat(seconds), (seconds * 1000) / 2);
    timer.unref();
  };
  const beat = async (seconds: number) => {
    let every = seconds;
    try {
      every = (await beatOrReturn(holder)) ?? seconds;
    } catch (error) {
      if (stopped) return;
      if (error instanceof TollgateError && isRefusal(error)) {
        stopped = true;
        onLost(error);
        return;
      }
      // Nobody could be asked: the next time, perhaps.
    }
    next(every);
  };
  next(everyS);
  return {
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
  };
}

async function beatOrReturn(holder: Holder): Promise<number | null> {
  try {
    return await holder.heartbeat();
  } catch (error) {
    if (!(error instanceof TollgateError) || error.code !== 'device_not_active') throw error;
    await holder.activate();
    return null;
  }
}
