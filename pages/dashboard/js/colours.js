// Which colours can be read on which.

/**
 * Relative luminance (WCAG 2) of red, green and blue in 0 … 255.
 * @param {number[]} rgb
 */
export function luminance(rgb) {
  const [red, green, blue] = rgb.map((part) => {
    const share = part / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/**
 * Black or white, whichever has more contrast on a colour like #332288.
 * @param {string} colour
 */
export function inkOn(colour) {
  return luminance([1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16))) > 0.179 ? "#000000" : "#ffffff";
}

/**
 * Whether a computed colour, like rgb(20, 23, 26), is dark.
 * @param {string} colour
 */
export function isDark(colour) {
  return luminance((colour.match(/[\d.]+/g) ?? []).slice(0, 3).map(Number)) <= 0.5;
}
