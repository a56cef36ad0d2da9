import { chmodSync, mkdtempSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { ConfigError, loadConfig, type Service } from './config.ts';
import { sqlitePath } from './keystore-url.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tollgate-config-'));
});
const local = (more: Record<string, string> = {}) => ({
  KEYSTORE_URL: `sqlite:${dir}/k.sqlite`,
  ROUTES_FILE: 'off',
  ...more,
});
const SECRET = 'Zm9yIHRlc3RzIG9ubHksIDQ4IHJhbmRvbSBieXRlcw==';
const production = {
  NODE_ENV: 'production',
  KEYSTORE_URL: 'sqlite:/var/lib/tollgate/k.sqlite',
  TOLLGATE_SECRET: SECRET,
  PUBLIC_BILLING_URL: 'https://buy.example.com/',
  PUBLIC_GATEWAY_URL: 'https://api.example.com',
  UPSTREAM_URL: 'http://10.0.0.2:3000',
  STRIPE_SECRET_KEY: 'rk_live_1234567890',
  STRIPE_WEBHOOK_SECRET: 'whsec_1234567890',
};
function problemsOf(env: Record<string, string>, service: Service = 'all'): string[] {
  try {
    loadConfig(env, service);
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.map((problem) => problem.variable).sort();
  }
}

describe('configuration', () => {
  it('has defaults that run on a fresh machine, with a generated secret kept private', () => {
    const config = loadConfig(local(), 'all');
    expect(config).toMatchObject({
      host: '127.0.0.1',
      gatewayPort: 8010,
      billingPort: 8011,
      sandboxPort: 8012,
      publicBillingUrl: 'http://127.0.0.1:8011',
      publicGatewayUrl: 'http://127.0.0.1:8010',
      keyPrefix: 'tg',
      stripe: null,
      upstreamUrl: null,
      production: false,
    });
    const file = join(dir, 'server-secret');
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readFileSync(file, 'utf8').trim()).toBe(config.serverSecret);
    expect(Buffer.from(config.serverSecret, 'base64')).toHaveLength(48);
    expect(loadConfig(local(), 'all').serverSecret).toBe(config.serverSecret);
  });

  it('refuses a generated secret that others can read, and says the remedy', () => {
    loadConfig(local(), 'all');
    chmodSync(join(dir, 'server-secret'), 0o644);
    expect(() => loadConfig(local(), 'all')).toThrow(/chmod 600/);
  });

  it('reports every mistake at once, each with its name and an example', () => {
    const env = local({
      GATEWAY_PORT: '99999',
      BILLING_PORT: 'abc',
      KEY_PREFIX: 'Has_Underscore',
      UPSTREAM_URL: 'ftp://x',
      STRIPE_SECRET_KEY: 'pk_test_123456',
      TOLLGATE_SECRET: 'short',
      LOG_LEVEL: 'loud',
      RATE_LIMIT_PRO: 'many',
      STRIPE_PRICE_MAP: 'price_1:nosuchplan;prod_2:pro',
      TRUSTED_PROXIES: '10.0.0.0/8,nonsense',
    });
    expect(problemsOf(env)).toEqual([
      'BILLING_PORT',
      'GATEWAY_PORT',
      'KEY_PREFIX',
      'LOG_LEVEL',
      'RATE_LIMIT_PRO',
      'STRIPE_PRICE_MAP',
      'STRIPE_PRICE_MAP',
      'STRIPE_SECRET_KEY',
      'TOLLGATE_SECRET',
      'TRUSTED_PROXIES',
      'UPSTREAM_URL',
    ]);
    expect(() => loadConfig(env, 'all')).toThrow(
      /11 problems[\s\S]*GATEWAY_PORT is not a port number\n {4}for example: GATEWAY_PORT=8010/,
    );
  });

  it('never repeats a secret in its message', () => {
    for (const name of ['STRIPE_SECRET_KEY', 'STRIPE_WEBHOOK_SECRET', 'TOLLGATE_SECRET']) {
      expect(() => loadConfig(local({ [name]: 'Pa55word' }), 'all')).toThrow(ConfigError);
      expect(() => loadConfig(local({ [name]: 'Pa55word' }), 'all')).not.toThrow(/Pa55word/);
    }
  });

  it('never repeats a secret that was put into the wrong variable', () => {
    const env = local({
      PRICE_ID_PRO: 'sk_live_SECRETSECRET',
      STRIPE_PRICE_MAP: 'sk_live_OTHERSECRET:pro',
      RATE_LIMIT_PRO: 'whsec_THIRDSECRET',
    });
    expect(() => loadConfig(env, 'all')).toThrow(/3 problems/);
    expect(() => loadConfig(env, 'all')).not.toThrow(/SECRETSECRET|OTHERSECRET|THIRDSECRET/);
  });

  it('a live Stripe key gets every check of production, whatever NODE_ENV says', () => {
    const env = local({ STRIPE_SECRET_KEY: 'sk_live_0123456789', KEYSTORE_URL: 'sqlite:./k.sqlite' });
    for (const NODE_ENV of ['', 'development']) {
      expect(problemsOf({ ...env, NODE_ENV })).toEqual([
        'KEYSTORE_URL',
        'PUBLIC_BILLING_URL',
        'PUBLIC_GATEWAY_URL',
        'STRIPE_WEBHOOK_SECRET',
        'TOLLGATE_SECRET',
        'UPSTREAM_URL',
      ]);
    }
    expect(problemsOf(local({ NODE_ENV: 'prod' }))).toEqual(['NODE_ENV']);
  });

  it.each([
    ['PUBLIC_BILLING_URL', 'https://example.com/buy'],
    ['STRIPE_API_BASE', 'http://127.0.0.1:8012/v1'],
    ['TRUSTED_PROXIES', '0.0.0.0/0'],
    ['TRUSTED_PROXIES', '::/0'],
    ['TRUSTED_PROXIES', '10.0.0.0/33'],
    ['CHECKOUT_REDIRECT_ORIGINS', 'https://example.com/thanks'],
    ['UPSTREAM_URL', 'http://user:pass@10.0.0.2'],
    ['SMTP_URL', 'mail.example.com:25'],
    ['SMTP_URL', 'http://mail.example.com'],
    ['SMTP_URL', 'smtp://mail.example.com/?tls.rejectUnauthorized=false'],
    ['MAIL_FROM', 'nobody'],
    ['MAIL_FROM', 'A <a@example.com>, B <b@example.com>'],
  ])('refuses %s=%s', (name, value) => {
    expect(problemsOf(local({ [name]: value }))).toEqual([name]);
  });

  it('reads secrets from files, and refuses both forms at once, a missing and an empty file', () => {
    const file = join(dir, 'secret');
    writeFileSync(file, `${SECRET}\n`);
    expect(loadConfig(local({ TOLLGATE_SECRET_FILE: file }), 'all').serverSecret).toBe(SECRET);
    expect(problemsOf(local({ TOLLGATE_SECRET_FILE: file, TOLLGATE_SECRET: SECRET }))).toEqual([
      'TOLLGATE_SECRET_FILE',
    ]);
    expect(problemsOf(local({ TOLLGATE_SECRET_FILE: join(dir, 'none') }))).toEqual(['TOLLGATE_SECRET_FILE']);
    writeFileSync(file, '\n');
    expect(problemsOf(local({ TOLLGATE_SECRET_FILE: file }))).toEqual(['TOLLGATE_SECRET_FILE']);
  });

  it('starts in production only when everything is safe', () => {
    expect(loadConfig(production, 'all')).toMatchObject({
      publicBillingUrl: 'https://buy.example.com',
      stripe: { mode: 'live' },
    });
    for (const name of Object.keys(production).filter((key) => key !== 'NODE_ENV')) {
      expect(problemsOf({ ...production, [name]: '' }), name).toEqual([name]);
    }
    const postgres = 'postgres://tollgate:s3cret@db.internal/tollgate';
    expect(problemsOf({ ...production, KEYSTORE_URL: postgres })).toEqual(['KEYSTORE_URL']);
    expect(problemsOf({ ...production, KEYSTORE_URL: `${postgres}?sslmode=verify-full` })).toEqual([]);
    expect(problemsOf({ ...production, KEYSTORE_URL: 'sqlite:./k.sqlite' })).toEqual(['KEYSTORE_URL']);
    expect(problemsOf({ ...production, PUBLIC_GATEWAY_URL: 'http://api.example.com' })).toEqual([
      'PUBLIC_GATEWAY_URL',
    ]);
    expect(problemsOf({ ...production, STRIPE_API_BASE: 'http://127.0.0.1:8012' })).toEqual([
      'STRIPE_API_BASE',
    ]);
    expect(problemsOf({ ...production, TOLLGATE_SECRET: 'x'.repeat(64) })).toEqual(['TOLLGATE_SECRET']);
  });

  it('takes routes from a file in place of UPSTREAM_URL, never both', () => {
    const file = join(dir, 'routes.yaml');
    expect(problemsOf(local({ ROUTES_FILE: file }))).toEqual(['ROUTES_FILE']);
    writeFileSync(file, '');
    expect(loadConfig(local({ ROUTES_FILE: file }), 'gateway').routesFile).toBe(file);
    const { UPSTREAM_URL, ...others } = production;
    expect(problemsOf({ ...others, ROUTES_FILE: file })).toEqual([]);
    expect(problemsOf({ ...production, ROUTES_FILE: file })).toEqual(['UPSTREAM_URL']);
    expect(problemsOf({ ...production, ROUTES_FILE: file }, 'billing')).toEqual([]);
    expect(() => loadConfig(local({ ROUTES_FILE: file, UPSTREAM_URL }), 'gateway')).toThrow(
      /ROUTES_FILE=off/,
    );
  });

  it('asks each service only for what it uses: the gateway never needs a Stripe secret', () => {
    const { STRIPE_SECRET_KEY, STRIPE_WEBHOOK_SECRET, ...gateway } = production;
    expect(problemsOf(gateway, 'gateway')).toEqual([]);
    expect(problemsOf(gateway, 'billing')).toEqual(['STRIPE_SECRET_KEY', 'STRIPE_WEBHOOK_SECRET']);
    const { UPSTREAM_URL, ...billing } = production;
    expect(problemsOf(billing, 'billing')).toEqual([]);
    expect(problemsOf(local(), 'billing')).toEqual(['STRIPE_SECRET_KEY', 'STRIPE_WEBHOOK_SECRET']);
  });

  it('sends e-mail where both server and sender are set, and never in the clear to another machine', () => {
    expect(loadConfig(local(), 'all').mail).toBeNull();
    const mail = { SMTP_URL: 'smtp://mail.example.com:587', MAIL_FROM: 'Acme API <api@example.com>' };
    expect(loadConfig(local(mail), 'all').mail).toEqual({
      smtpUrl: mail.SMTP_URL,
      from: mail.MAIL_FROM,
      requireTls: false,
    });
    expect(problemsOf(local({ SMTP_URL: mail.SMTP_URL }))).toEqual(['MAIL_FROM']);
    expect(problemsOf(local({ MAIL_FROM: 'api@example.com' }))).toEqual(['SMTP_URL']);
    const requireTls = (env: Record<string, string>) => loadConfig(env, 'all').mail?.requireTls;
    expect(requireTls({ ...production, ...mail })).toBe(true);
    expect(requireTls({ ...production, ...mail, SMTP_URL: 'smtp://127.0.0.1:25' })).toBe(false);
    expect(requireTls(local({ ...mail, SMTP_URL: 'smtp://user:Pa55word@mail.example.com' }))).toBe(true);
    const file = join(dir, 'smtp');
    writeFileSync(file, `${mail.SMTP_URL}\n`);
    const fromFile = { SMTP_URL_FILE: file, MAIL_FROM: mail.MAIL_FROM };
    expect(loadConfig(local(fromFile), 'all').mail?.smtpUrl).toBe(mail.SMTP_URL);
    expect(() => loadConfig(local({ ...mail, SMTP_URL: 'smtp://u:Pa55word@host/?x=1' }), 'all')).toThrow(
      ConfigError,
    );
    expect(() => loadConfig(local({ ...mail, SMTP_URL: 'smtp://u:Pa55word@host/?x=1' }), 'all')).not.toThrow(
      /Pa55word/,
    );
  });

  it('runs the gateway in one process, or in as many as are asked for', () => {
    const workers = (GATEWAY_WORKERS: string) => loadConfig(local({ GATEWAY_WORKERS }), 'gateway').workers;
    expect(loadConfig(local(), 'gateway').workers).toBe(1);
    expect(workers('1')).toBe(1);
    expect(workers('64')).toBe(64);
    expect(workers('auto')).toBe(Math.min(64, availableParallelism()));
    for (const GATEWAY_WORKERS of ['0', '-1', '65', '1.5', '01', 'all', '100'])
      expect(problemsOf(local({ GATEWAY_WORKERS }), 'gateway')).toEqual(['GATEWAY_WORKERS']);
    expect(problemsOf(local({ GATEWAY_WORKERS: '2' }), 'all')).toEqual(['GATEWAY_WORKERS']);
    expect(problemsOf(local({ GATEWAY_WORKERS: '1' }), 'all')).toEqual([]);
  });

  it('never sends a live key anywhere but to Stripe', () => {
    expect(
      problemsOf(local({ STRIPE_SECRET_KEY: 'sk_live_123456', STRIPE_API_BASE: 'http://127.0.0.1:1' })),
    ).toContain('STRIPE_API_BASE');
  });

  it('reads the usual spellings of a SQLite address', () => {
    expect(sqlitePath('sqlite:/a/b.sqlite')).toBe('/a/b.sqlite');
    expect(sqlitePath('sqlite:///a/b.sqlite')).toBe('/a/b.sqlite');
    expect(sqlitePath('sqlite:./b.sqlite')).toBe(join(process.cwd(), 'b.sqlite'));
  });
});
