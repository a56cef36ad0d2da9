import { availableParallelism } from 'node:os';
import { z } from 'zod';
import { isAddressOrRange } from './address-ranges.ts';
import { KEY_PREFIX_PATTERN } from './keys.ts';
import { keystoreUrlFault } from './keystore-url.ts';
import { signingKeysFault } from './signing-keys.ts';

const port = z.coerce
  .number({ error: 'is not a port number' })
  .int('is not a port number')
  .min(0)
  .max(65_535, 'is not a port number');
const httpUrl = z
  .string()
  .refine(
    (text) => URL.canParse(text) && /^https?:$/.test(new URL(text).protocol),
    'is not an http:// or https:// address',
  )
  .refine(
    (text) =>
      !URL.canParse(text) || (!new URL(text).username && !new URL(text).hash && !new URL(text).search),
    'has a user name, a query or a fragment; leave that out',
  )
  .transform((text) => text.replace(/\/+$/, ''));

/** A page of the seller's own site. */
const webPage = z
  .string()
  .refine(
    (text) => URL.canParse(text) && /^https?:$/.test(new URL(text).protocol) && !new URL(text).username,
    'is not the http:// or https:// address of a page',
  );

/** Each variable with what it must look like; `example` is shown beside a mistake. */
export const variables = {
  HOST: { schema: z.string().min(1).default('127.0.0.1'), example: '127.0.0.1' },
  GATEWAY_PORT: { schema: port.default(8010), example: '8010' },
  BILLING_PORT: { schema: port.default(8011), example: '8011' },
  SANDBOX_PORT: { schema: port.default(8012), example: '8012' },
  LICENSING_PORT: { schema: port.default(8015), example: '8015' },
  INTERNAL_HOST: { schema: z.string().min(1).default('127.0.0.1'), example: '127.0.0.1' },
  INTERNAL_PORT: { schema: port.default(8013), example: '8013' },
  BILLING_INTERNAL_PORT: { schema: port.default(8014), example: '8014' },
  LICENSING_INTERNAL_PORT: { schema: port.default(8016), example: '8016' },
  KEYSTORE_URL: {
    schema: z
      .string()
      .superRefine((url, context) => {
        const fault = keystoreUrlFault(url);
        if (fault !== null) context.addIssue({ code: 'custom', message: fault });
      })
      .default('sqlite:./data/keystore.sqlite'),
    example:
      'sqlite:/var/lib/tollgate/keystore.sqlite (or postgres://tollgate:password@db.internal/tollgate)',
  },
  KEYSTORE_GRACE_MINUTES: {
    schema: z.coerce.number({ error: 'is not a number of minutes' }).min(0).max(10_080).default(60),
    example: '60',
  },
  REDIS_URL: {
    schema: z
      .string()
      .refine(
        (url) => /^rediss?:\/\/./.test(url) && URL.canParse(url),
        'is not a redis:// or rediss:// address',
      )
      .optional(),
    example: 'redis://127.0.0.1:6379',
  },
  LIMITS_WITHOUT_REDIS: {
    schema: z.enum(['local', 'closed'], { error: 'is neither "local" nor "closed"' }).default('local'),
    example: 'local',
  },
  UPSTREAM_URL: { schema: httpUrl.optional(), example: 'http://127.0.0.1:3000' },
  ROUTES_FILE: { schema: z.string().min(1).optional(), example: './routes.yaml' },
  UPSTREAM_TIMEOUT_SECONDS: {
    schema: z.coerce.number({ error: 'is not a number of seconds' }).min(1).max(3600).default(60),
    example: '60',
  },
  STRIPE_SECRET_KEY: {
    schema: z
      .string()
      .regex(
        /^(sk|rk)_(test|live)_[0-9A-Za-z_]{4,}$/,
        'is not a Stripe secret key (sk_...) or restricted key (rk_...)',
      )
      .optional(),
    example: 'rk_test_...',
  },
  STRIPE_WEBHOOK_SECRET: {
    schema: z
      .string()
      .regex(/^whsec_.{8,}$/, 'is not the signing secret of a webhook endpoint')
      .optional(),
    example: 'whsec_...',
  },
  STRIPE_API_BASE: { schema: withoutPath(httpUrl).optional(), example: 'http://127.0.0.1:8012' },
  TOLLGATE_SECRET: {
    schema: z
      .string()
      .refine((text) => Buffer.byteLength(text) >= 32, 'is shorter than 32 bytes')
      .refine((text) => new Set(text).size >= 10, 'looks like a placeholder: make a random one')
      .optional(),
    example: 'the output of: openssl rand -base64 48',
  },
  PUBLIC_BILLING_URL: { schema: withoutPath(httpUrl).optional(), example: 'https://buy.example.com' },
  PUBLIC_LICENSING_URL: { schema: withoutPath(httpUrl).optional(), example: 'https://buy.example.com' },
  LICENSING_KEYS: {
    schema: z
      .string()
      .superRefine((text, context) => {
        const fault = signingKeysFault(text);
        if (fault !== null) context.addIssue({ code: 'custom', message: fault });
      })
      .optional(),
    example: 'the output of: npm run licences -- signing-key (or LICENSING_KEYS_FILE, a file with it)',
  },
  PUBLIC_GATEWAY_URL: { schema: httpUrl.optional(), example: 'https://api.example.com' },
  CHECKOUT_REDIRECT_ORIGINS: {
    schema: list(
      z
        .string()
        .refine(
          (text) => URL.canParse(text) && new URL(text).origin === text,
          'has an entry that is not an origin',
        ),
    ),
    example: 'https://www.example.com,https://docs.example.com',
  },
  PRODUCT_NAME: {
    schema: z.string().max(60, 'is longer than 60 characters').default('Demo API'),
    example: 'Acme Weather API',
  },
  SUPPORT_EMAIL: { schema: z.email('is not an e-mail address').optional(), example: 'support@example.com' },
  TERMS_URL: { schema: webPage.optional(), example: 'https://www.example.com/terms' },
  REFUND_POLICY_URL: { schema: webPage.optional(), example: 'https://www.example.com/refunds' },
  PRIVACY_URL: { schema: webPage.optional(), example: 'https://www.example.com/privacy' },
  SMTP_URL: {
    schema: z
      .string()
      .refine(isSmtpUrl, 'is not an smtp:// or smtps:// address without path and options')
      .optional(),
    example: 'smtps://user:password@mail.example.com:465',
  },
  MAIL_FROM: {
    schema: z
      .string()
      .refine(isMailbox, 'is not an e-mail address, with or without a name before it')
      .optional(),
    example: 'Acme Weather API <api@example.com>',
  },
  KEY_PREFIX: {
    schema: z
      .string()
      .regex(KEY_PREFIX_PATTERN, 'is not 1 to 10 lower-case letters and digits')
      .default('tg'),
    example: 'acme',
  },
  KEY_HASH: {
    schema: z
      .string()
      .regex(/^m=[0-9]{1,7},t=[0-9]{1,3},p=[0-9]{1,2}$/, 'is not Argon2id parameters')
      .default('m=4096,t=1,p=1')
      .transform((text) => text.match(/\d+/g)?.map(Number) as [number, number, number])
      .refine(
        ([m, t, p]) => m >= 8 * p && t >= 1 && p >= 1 && m <= 1_048_576,
        'has Argon2id parameters out of range',
      ),
    example: 'm=4096,t=1,p=1 (memory in KiB, passes, lanes)',
  },
  REVEAL_TTL_HOURS: {
    schema: z.coerce.number({ error: 'is not a number of hours' }).min(1).max(720).default(168),
    example: '168',
  },
  TRUSTED_PROXIES: {
    schema: list(
      z.string().refine(isAddressOrRange, 'has an entry that is neither an IP address nor a range'),
    ),
    example: '10.0.0.0/8,127.0.0.1',
  },
  DRAIN_SECONDS: {
    schema: z.coerce.number({ error: 'is not a number of seconds' }).min(0).max(3600).default(8),
    example: '25',
  },
  STOP_DELAY_SECONDS: {
    schema: z.coerce.number({ error: 'is not a number of seconds' }).min(0).max(300).default(0),
    example: '5',
  },
  MAX_CONNECTIONS: {
    schema: z.coerce.number({ error: 'is not a number' }).int('is not a whole number').min(1).default(20_000),
    example: '20000',
  },
  MAX_CONNECTIONS_PER_ADDRESS: {
    schema: z.coerce.number({ error: 'is not a number' }).int('is not a whole number').min(1).default(1000),
    example: '1000',
  },
  PLANS_FILE: { schema: z.string().min(1).optional(), example: './plans.yaml' },
  GATEWAY_WORKERS: {
    schema: z
      .string()
      .regex(/^(auto|[1-9]|[1-5][0-9]|6[0-4])$/, 'is neither a whole number from 1 to 64 nor auto')
      .default('1')
      .transform((text) => (text === 'auto' ? Math.min(64, availableParallelism()) : Number(text))),
    example: 'auto',
  },
  ACCESS_LOG: {
    schema: z
      .string()
      .refine(
        (text) => text === 'off' || text === 'stdout' || text.includes('/'),
        'is neither off nor stdout nor the path of a file',
      )
      .default('off'),
    example: '/var/log/tollgate/access.log',
  },
  FAST_LANE: {
    schema: z
      .enum(['on', 'off'], { error: 'is neither on nor off' })
      .default('on')
      .transform((value) => value === 'on'),
    example: 'off',
  },
  ALLOW_LIVE_PREFLIGHT: {
    schema: z
      .enum(['true', 'false'], { error: 'is neither true nor false' })
      .default('false')
      .transform((value) => value === 'true'),
    example: 'true',
  },
  ALLOW_LIVE_REHEARSAL: {
    schema: z
      .enum(['true', 'false'], { error: 'is neither true nor false' })
      .default('false')
      .transform((value) => value === 'true'),
    example: 'true',
  },
  LOG_LEVEL: {
    schema: z
      .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], { error: 'is not a log level' })
      .default('info'),
    example: 'info',
  },
  NODE_ENV: {
    schema: z
      .enum(['development', 'test', 'production'], { error: 'is not development, test or production' })
      .default('development'),
    example: 'production',
  },
} as const;

function withoutPath(url: typeof httpUrl) {
  return url.refine(
    (text) => !URL.canParse(text) || new URL(text).pathname === '/',
    'has a path; give it a host name of its own',
  );
}

function list(entry: z.ZodString) {
  return z
    .string()
    .default('')
    .transform((text) =>
      text
        .split(',')
        .map((part) => part.trim())
        .filter(Boolean),
    )
    .pipe(z.array(entry));
}

function isSmtpUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname, pathname, search, hash, username, password } = new URL(text);
  try {
    decodeURIComponent(username + password);
  } catch {
    return false;
  }
  return /^smtps?:$/.test(protocol) && hostname !== '' && /^\/?$/.test(pathname) && !search && !hash;
}

/** `api@example.com`, or `Acme API <api@example.com>`. */
function isMailbox(text: string): boolean {
  const [, address = text] = /^[^<>"\r\n]{1,100}<([^<>\s]+)>$/.exec(text) ?? [];
  return z.email().safeParse(address).success;
}
