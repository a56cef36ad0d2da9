import { BlockList, isIP } from 'node:net';

/** Whether a text is an IP address, such as `192.0.2.1`, or a range of them, such as `2001:db8::/32`. */
export function isAddressOrRange(text: string): boolean {
  const [address = '', bits, ...rest] = text.split('/');
  const family = isIP(address);
  if (family === 0 || address.includes('%') || rest.length > 0) return false;
  return (
    bits === undefined ||
    (/^[0-9]{1,3}$/.test(bits) && Number(bits) >= 1 && Number(bits) <= (family === 4 ? 32 : 128))
  );
}

/** The addresses in these addresses and ranges. @throws when one is not valid */
export function addressesIn(ranges: readonly string[]): BlockList {
  const addresses = new BlockList();
  for (const range of ranges) {
    const [address = '', bits] = range.split('/');
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
    if (bits === undefined) addresses.addAddress(address, family);
    else addresses.addSubnet(address, Number(bits), family);
  }
  return addresses;
}

/** Whether an address is one of these. What is no address is none of them. */
export function isAmong(addresses: BlockList, address: string): boolean {
  const plain = address.split('%', 1)[0] as string;
  const family = isIP(plain);
  return family !== 0 && addresses.check(plain, family === 6 ? 'ipv6' : 'ipv4');
}

type Limited = { allowedAddresses: readonly string[] | null };

const allowedOf = new WeakMap<Limited, BlockList>();

/** Whether a key may be used from an address. */
export function isAllowedFrom(key: Limited, address: string): boolean {
  if (key.allowedAddresses === null) return true;
  let addresses = allowedOf.get(key);
  if (addresses === undefined) {
    addresses = addressesIn(key.allowedAddresses);
    allowedOf.set(key, addresses);
  }
  return isAmong(addresses, address);
}
