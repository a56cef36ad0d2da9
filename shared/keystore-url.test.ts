import { describe, expect, it } from 'vitest';
import {
  keystoreName,
  keystoreUrlFault,
  postgresAddress,
  saysWhetherEncrypted,
  sqlitePath,
} from './keystore-url.ts';

describe('the address of a keystore', () => {
  it('is a file, or a PostgreSQL database with options of ours and the driver’s', () => {
    expect(sqlitePath('sqlite:///var/lib/k.sqlite')).toBe('/var/lib/k.sqlite');
    expect(
      postgresAddress('postgres://tollgate:s3cret@db.internal:6000/shop?sslmode=verify-full&pool=20'),
    ).toEqual({
      name: 'postgres://tollgate@db.internal:6000/shop',
      connectionString: 'postgres://tollgate:s3cret@db.internal:6000/shop?sslmode=verify-full',
      schema: 'tollgate',
      pool: 20,
    });
    expect(keystoreName('postgres://tollgate:s3cret@h/d?sslmode=disable')).toBe('postgres://tollgate@h/d');
    expect(keystoreName('sqlite:/k.sqlite')).toBe('/k.sqlite');
    expect(postgresAddress('postgresql://h/d?schema=other')).toMatchObject({
      name: 'postgresql://h/d (schema other)',
      schema: 'other',
    });
  });

  it.each([
    ['mysql://h/d', /begins with sqlite: or postgres/],
    ['sqlite:', /begins with sqlite: or postgres/],
    ['postgres://h', /names no database/],
    ['postgres://u:s3cret@h/', /names no database/],
    ['postgres://h/d?schema=Bad-Name', /"schema"/],
    ['postgres://h/d?schema=a;drop', /"schema"/],
    ['postgres://h/d?pool=0', /"pool"/],
    ['postgres://h/d?pool=many', /"pool"/],
    ['postgres://u:s3cret@h:port/d', /not an address/],
  ])('%s is told what is wrong with it, and nothing secret', (url, message) => {
    const fault = keystoreUrlFault(url);
    expect(fault).toMatch(message);
    expect(fault).not.toContain('s3cret');
  });

  it.each([
    ['postgres://127.0.0.1/d', true],
    ['postgres://localhost/d', true],
    ['postgres:///d?host=/run/postgresql', true],
    ['postgres://db.internal/d', false],
    ['postgres://db.internal/d?sslmode=disable', true],
    ['postgres://db.internal/d?sslmode=verify-full', true],
    ['postgres://127.0.0.1.evil.example/d', false],
  ])('%s says whether it is encrypted: %s', (url, says) => {
    expect(saysWhetherEncrypted(url)).toBe(says);
  });
});
