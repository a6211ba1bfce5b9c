// Decodes numbers that messages carry as letters (moe_sim/server/messages.py). The alphabet has 64.

export class Letters {
  /** @param {string} alphabet */
  constructor(alphabet) {
    this.base = alphabet.length;
    this.values = new Map(Array.from(alphabet, (letter, value) => [letter, value]));
  }

  /**
   * One number a letter.
   * @param {string} text
   */
  numbers(text) {
    return Array.from(text, (letter) => /** @type {number} */ (this.values.get(letter)));
  }

  /**
   * One share a letter.
   * @param {string} text
   */
  shares(text) {
    return this.numbers(text).map((number) => number / (this.base - 1));
  }

  /**
   * One share for two letters.
   * @param {string} text
   */
  pairedShares(text) {
    const numbers = this.numbers(text);
    const shares = [];
    for (let i = 0; i < numbers.length; i += 2)
      shares.push((this.base * numbers[i] + numbers[i + 1]) / (this.base ** 2 - 1));
    return shares;
  }

  /**
   * The expert of each token. Where experts are few, a letter holds those of two tokens.
   * @param {string} text
   * @param {number} numExperts
   */
  experts(text, numExperts) {
    const side = Math.sqrt(this.base);
    const numbers = this.numbers(text);
    if (numExperts > side) return numbers;
    return numbers.flatMap((number) => [Math.floor(number / side), number % side]);
  }
}
