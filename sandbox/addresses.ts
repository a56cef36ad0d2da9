import { object, required, string } from './params.ts';

export interface Address {
  city: string | null;
  country: string | null;
  line1: string | null;
  line2: string | null;
  postal_code: string | null;
  state: string | null;
}
export const addressShape = object({
  city: string(),
  country: string(2),
  line1: string(),
  line2: string(),
  postal_code: string(),
  state: string(),
});

/** An address with null for what was not given. */
export function wholeAddress(given: { [K in keyof Address]?: string | null | undefined }): Address {
  const { city, country, line1, line2, postal_code, state } = given;
  return {
    city: city ?? null,
    country: country ?? null,
    line1: line1 ?? null,
    line2: line2 ?? null,
    postal_code: postal_code ?? null,
    state: state ?? null,
  };
}

/** Where a parcel goes. */
export interface Shipping {
  address: Address;
  carrier: string | null;
  name: string;
  phone: string | null;
  tracking_number: string | null;
}

export const shippingShape = object({
  address: required(addressShape),
  carrier: string(),
  name: required(string()),
  phone: string(),
  tracking_number: string(),
});

/** A delivery with null for what was not given. */
export function wholeShipping(given: ReturnType<typeof shippingShape.parse> | undefined): Shipping | null {
  return given
    ? {
        address: wholeAddress(given.address),
        carrier: given.carrier ?? null,
        name: given.name,
        phone: given.phone ?? null,
        tracking_number: given.tracking_number ?? null,
      }
    : null;
}
