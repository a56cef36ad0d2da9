import type { Device } from './device.ts';
import { isEntitled } from './entitlements.ts';
import { TollgateError } from './error.ts';
import { inTime } from './in-time.ts';
import type { Licence, LicenceFile } from './licence-file.ts';
import type { Activation, Licensing } from './licensing.ts';
import { type Published, understood } from './published.ts';
import {
  askAgainAt,
  dueOf,
  endedBy,
  isFloating,
  isRefusal,
  keptEntitlement,
  LONGEST_ACTIVATION_PAUSE_MS,
  LONGEST_PAUSE_MS,
  remembering,
  standingHere,
} from './renewal.ts';
import type { PublishedKeys, SigningKeys } from './signing-keys.ts';
import type { Standing } from './standing.ts';
import { readToken } from './token.ts';

export type KeeperOptions = {
  product: string;
  pinned: SigningKeys | null;
  file: LicenceFile;
  published: Published;
  licensing: Licensing;
  device(): Promise<Device>;
  /** How long anybody is made to wait for the network, milliseconds. */
  waitMs: number;
};

/** Keeps a licence's entitlement: judges it, has it renewed in time, and writes down what comes of it. */
export class EntitlementKeeper {
  readonly #options: KeeperOptions;
  #renewing: Promise<void> | null = null;

  constructor(options: KeeperOptions) {
    this.#options = options;
  }

  /**
   * The licence that is here, and what its entitlement is worth; `standing` is `null` when there is none. When it is time, the
   * next one is fetched; that is waited for only when what is here does not count.
   */
  async now(): Promise<{ licence: Licence; standing: Standing | null }> {
    const { file, waitMs } = this.#options;
    let licence = await file.read();
    let [standing, published] = await this.#standing(licence);
    if (standing !== null && dueOf(licence, standing, published, Date.now()) !== null) {
      const renewing = this.#renewQuietly(licence, standing, published);
      if (!isEntitled(standing.code)) {
        await inTime(renewing, waitMs);
        licence = await file.read();
        [standing, published] = await this.#standing(licence);
      }
    }
    await this.#remember(licence, standing);
    return { licence, standing };
  }

  /** What the entitlement here is worth; `null`: there is none. With the key set that it was judged by. */
  async #standing(licence: Licence): Promise<[Standing | null, PublishedKeys | null]> {
    const { entitlement } = licence;
    if (entitlement === null) return [null, null];
    const { product, pinned } = this.#options;
    const [device, published] = await Promise.all([
      this.#options.device(),
      this.#options.published.keptKeys(),
    ]);
    const kept = { ...licence, entitlement };
    return [standingHere(kept, device, product, pinned, published, Date.now()), published];
  }

  /** Renews beside what the caller does; one at a time. What comes of it is in the file; that it failed, too. */
  #renewQuietly(licence: Licence, standing: Standing, published: PublishedKeys | null): Promise<void> {
    this.#renewing ??= this.#renew(licence, standing, published)
      .catch(() => undefined)
      .finally(() => {
        this.#renewing = null;
      });
    return this.#renewing;
  }

  async #renew(licence: Licence, standing: Standing, published: PublishedKeys | null): Promise<void> {
    const { key } = licence;
    if (key === null) return;
    if (dueOf(licence, standing, published, Date.now()) === 'entitlement') {
      await this.renew({ ...licence, key });
      return;
    }
    try {
      await this.#options.published.fetchKeys();
    } catch (error) {
      if (error instanceof TollgateError) await this.#note(licence, error, isEntitled(standing.code));
      throw error;
    }
  }

  /**
   * Asks for the next entitlement. A floating seat that became somebody else's, or nobody's, while this device was away is
   * taken again where there is one: that it was lost says nothing on the licence.
   */
  async renew(licence: Licence & { key: string }): Promise<void> {
    const { key } = licence;
    const { licensing } = this.#options;
    const device = await this.#options.device();
    if (!isFloating(licence)) {
      await this.#obtain(licence, () => licensing.refresh(key, device.id), LONGEST_PAUSE_MS);
      return;
    }
    await this.obtain(licence, () =>
      licensing.refresh(key, device.id).catch((error) => {
        if (!(error instanceof TollgateError) || error.code !== 'device_not_active') throw error;
        return licensing.activate(key, device);
      }),
    );
  }

  /**
   * Activates, and keeps what comes of it: the entitlement, that it has ended, or when to ask again. That too many were
   * activated today keeps nobody from renewing what is here.
   */
  obtain(licence: Licence, ask: () => Promise<Activation>): Promise<void> {
    return this.#obtain(licence, ask, LONGEST_ACTIVATION_PAUSE_MS);
  }

  async #obtain(licence: Licence, ask: () => Promise<Activation>, longestPauseMs: number): Promise<void> {
    try {
      const activation = await ask();
      const [device, published] = await Promise.all([
        this.#options.device(),
        this.#keysFor(activation.token),
      ]);
      const entitlement = keptEntitlement(
        activation,
        device,
        this.#options.product,
        this.#options.pinned,
        published,
        Date.now(),
      );
      const { plan, mode } = activation.licence;
      await this.#options.file.change((now) =>
        // Somebody may have logged in with another key meanwhile.
        now.key === licence.key ? { ...now, plan, mode, entitlement, ended: null, askAgainAt: 0 } : now,
      );
    } catch (error) {
      if (error instanceof TollgateError) {
        const [standing] = await this.#standing(licence);
        const entitled = standing !== null && isEntitled(standing.code);
        await this.#note(licence, error, entitled, longestPauseMs);
      }
      throw error;
    }
  }

  async #note(
    { key }: Licence,
    error: TollgateError,
    entitled: boolean,
    longestPauseMs = LONGEST_PAUSE_MS,
  ): Promise<void> {
    const at = Date.now();
    const again = askAgainAt(error, entitled, at, longestPauseMs);
    await this.#options.file.change((now) => {
      if (now.key !== key) return now;
      return isRefusal(error)
        ? { ...now, ended: endedBy(error, at), askAgainAt: again }
        : { ...now, askAgainAt: again };
    });
  }

  /** The server's keys, asked anew; those that are here where that fails and they know the one that signed. */
  async #keysFor(token: string): Promise<PublishedKeys | null> {
    const signedBy = understood(() => readToken(token)).keyId;
    try {
      return await this.#options.published.fetchKeys();
    } catch (error) {
      const kept = await this.#options.published.keptKeys();
      if (kept?.keys.has(signedBy)) return kept;
      if (this.#options.pinned?.has(signedBy)) return null;
      throw error;
    }
  }

  /** Writes down how late it is. A file that cannot be written takes nobody's licence away. */
  async #remember(licence: Licence, standing: Standing | null): Promise<void> {
    const { entitlement } = licence;
    if (entitlement === null || standing === null) return;
    if (!['active', 'grace', 'expired', 'ended'].includes(standing.code)) return;
    const { id } = await this.#options.device();
    if (remembering(licence, entitlement.token, id, standing.now) === licence) return;
    try {
      await this.#options.file.change((now) => remembering(now, entitlement.token, id, standing.now));
    } catch (error) {
      if (!(error instanceof TollgateError)) throw error;
    }
  }
}
