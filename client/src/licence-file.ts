import { join } from 'node:path';
import type { ClockRecord } from './clock.ts';
import { TollgateError } from './error.ts';
import { corrupt, readJson, remove, setAside, withLock, writeJson } from './files.ts';
import {
  count,
  countOrNull,
  MODES,
  type Mode,
  oneOf,
  type Shape,
  ShapeError,
  shape,
  text,
  textOrNull,
} from './shape.ts';
import type { Ended } from './standing.ts';

const KEY_SOURCES = ['purchase', 'trial', 'given'] as const;

/** What is known of a licence on this machine. Times are milliseconds since the epoch. */
export type Licence = {
  key: string | null;
  /** How the key came here: bought or tried here, so that there may be no other copy of it; or given by somebody. */
  keyFrom: (typeof KEY_SOURCES)[number] | null;
  /** What the key was sold as, as far as it is known. */
  plan: string | null;
  mode: Mode | null;
  entitlement: KeptEntitlement | null;
  /** Set when the server refused to go on with the licence, until it goes on. */
  ended: Ended | null;
  /** Before this nobody is to be asked of its own accord; 0: at any time. */
  askAgainAt: number;
  /** The id of a trial that waits for the code that was mailed. */
  trialId: string | null;
};

export type KeptEntitlement = {
  token: string;
  receivedAt: number;
  /** From when on a new one is to be had. */
  refreshAt: number;
  /** How often a floating seat has to be heard of, seconds; `null`: the seat is fixed. */
  heartbeatS: number | null;
  clock: ClockRecord | null;
};

export const NO_LICENCE: Licence = {
  key: null,
  keyFrom: null,
  plan: null,
  mode: null,
  entitlement: null,
  ended: null,
  askAgainAt: 0,
  trialId: null,
};

/** The file of one product's licence. All that belongs together is in one file, so that it is never of two ages. */
export class LicenceFile {
  readonly path: string;

  /** @param folder of the product */
  constructor(folder: string) {
    this.path = join(folder, 'licence.json');
  }

  /** @throws TollgateError `storage_corrupt`, `storage_unavailable` */
  async read(): Promise<Licence> {
    const content = await readJson(this.path);
    if (content === undefined) return NO_LICENCE;
    try {
      return readLicence(content);
    } catch (error) {
      if (error instanceof ShapeError) throw corrupt(this.path, error.message);
      throw error;
    }
  }

  /**
   * Changes what is in the file while no other process does.
   *
   * @param change what it is to be, made from what it is; the same object: it stays as it is
   */
  async change(change: (now: Licence) => Licence): Promise<Licence> {
    return withLock(this.path, async () => {
      const before = await this.read();
      const after = change(before);
      if (after !== before) await writeJson(this.path, written(after));
      return after;
    });
  }

  /**
   * Begins anew, with another key. A damaged file is kept beside the new one, and so is one with a key of which there may be
   * no other copy.
   */
  async replace(licence: Licence): Promise<void> {
    await withLock(this.path, async () => {
      try {
        const before = await this.read();
        if (before.key !== null && before.key !== licence.key && before.keyFrom !== 'given') {
          await setAside(this.path, 'replaced');
        }
      } catch (error) {
        if (!(error instanceof TollgateError) || error.code !== 'storage_corrupt') throw error;
        await setAside(this.path, 'damaged');
      }
      await writeJson(this.path, written(licence));
    });
  }

  /** Forgets all of it. @throws TollgateError `storage_unavailable` */
  async erase(): Promise<void> {
    await withLock(this.path, () => remove(this.path));
  }
}

function written({ entitlement, ended, ...licence }: Licence): object {
  return {
    version: 1,
    key: licence.key,
    key_from: licence.keyFrom,
    plan: licence.plan,
    mode: licence.mode,
    entitlement: entitlement && {
      token: entitlement.token,
      received_at: entitlement.receivedAt,
      refresh_at: entitlement.refreshAt,
      heartbeat_s: entitlement.heartbeatS,
      clock: entitlement.clock,
    },
    ended,
    ask_again_at: licence.askAgainAt,
    trial_id: licence.trialId,
  };
}

function readLicence(content: unknown): Licence {
  const file = shape(content, 'the file');
  if (file.version !== 1) throw new ShapeError('its version is not 1');
  const mode = textOrNull(file, 'mode');
  return {
    key: textOrNull(file, 'key'),
    keyFrom: textOrNull(file, 'key_from') === null ? null : oneOf(file, 'key_from', KEY_SOURCES),
    plan: textOrNull(file, 'plan'),
    mode: mode === null ? null : oneOf(file, 'mode', MODES),
    entitlement: file.entitlement === null ? null : readEntitlement(shape(file.entitlement, 'entitlement')),
    ended: file.ended === null ? null : readEnded(shape(file.ended, 'ended')),
    askAgainAt: count(file, 'ask_again_at'),
    trialId: textOrNull(file, 'trial_id'),
  };
}

function readEntitlement(kept: Shape): KeptEntitlement {
  return {
    token: text(kept, 'token'),
    receivedAt: count(kept, 'received_at'),
    refreshAt: count(kept, 'refresh_at'),
    heartbeatS: countOrNull(kept, 'heartbeat_s'),
    clock: readClock(kept.clock),
  };
}

/** A record that was edited beyond recognition is as good as none; neither vouches for the time. */
function readClock(value: unknown): ClockRecord | null {
  try {
    const { latest, offset, mac } = shape(value, 'clock');
    if (!Number.isSafeInteger(latest) || !Number.isSafeInteger(offset) || typeof mac !== 'string')
      return null;
    return { latest: latest as number, offset: offset as number, mac };
  } catch {
    return null;
  }
}

function readEnded(ended: Shape): Ended {
  return {
    code: text(ended, 'code'),
    detail: text(ended, 'detail'),
    remedy: textOrNull(ended, 'remedy'),
    at: count(ended, 'at'),
  };
}
