/// The name that is likeliest to have been meant by `text`, or nil when none is near.
///
/// Near is at most one slip in three letters; a letter left out, added, changed, or swapped with its neighbour is one.
func nearestName(to text: String, among names: [String]) -> String? {
  let letters = Array(text)
  return names.lazy
    .map { (name: $0, letters: Array($0)) }
    // No fewer slips than the difference in length: this also keeps long arguments out of the table below.
    .filter { abs($0.letters.count - letters.count) <= $0.letters.count / 3 }
    .map { (name: $0.name, slips: slipCount(letters, $0.letters), allowed: max($0.letters.count / 3, 1)) }
    .filter { $0.slips <= $0.allowed }
    .min { $0.slips < $1.slips }?
    .name
}

/// The edit distance with swaps of neighbours (optimal string alignment).
private func slipCount(_ left: [Character], _ right: [Character]) -> Int {
  var beforeLast: [Int] = []
  var last = Array(0...right.count)
  for (row, letter) in left.enumerated() {
    var current = [row + 1]
    for (column, other) in right.enumerated() {
      var best = min(last[column + 1] + 1, current[column] + 1, last[column] + (letter == other ? 0 : 1))
      if row > 0, column > 0, letter == right[column - 1], left[row - 1] == other {
        best = min(best, beforeLast[column - 1] + 1)
      }
      current.append(best)
    }
    (beforeLast, last) = (last, current)
  }
  return last[right.count]
}
