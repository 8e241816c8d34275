// Geohashes: a place as a short text. Places with the same beginning are near each other.

const DIGITS = "0123456789bcdefghjkmnpqrstuvwxyz";

/** The geohash of a place in degrees, with this many digits. */
export function geohash(longitude, latitude, length) {
  const east = { low: -180, high: 180, value: longitude };
  const north = { low: -90, high: 90, value: latitude };
  let hash = "";
  for (let bit = 0, digit = 0; hash.length < length; bit += 1) {
    digit = digit * 2 + half(bit % 2 === 0 ? east : north);
    if (bit % 5 === 4) {
      hash += DIGITS[digit];
      digit = 0;
    }
  }
  return hash;
}

/** In which half the value is. The range becomes that half. */
function half(range) {
  const middle = (range.low + range.high) / 2;
  const upper = range.value >= middle;
  if (upper) range.low = middle;
  else range.high = middle;
  return Number(upper);
}
