"""Recurrent networks: classifiers, a language model of characters, seq2seq."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from helpers.torch_zoo.registry import model

TOKENS = ("cross_softmax", {"per_token": True})


class LSTMClassifier(nn.Module):
    def __init__(self, vocabulary=40, dim=16, hidden=24, classes=4):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, dim, padding_idx=0)
        self.lstm = nn.LSTM(dim, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, classes)

    def forward(self, tokens):
        x = self.embedding(tokens)
        out, (_hn, _cn) = self.lstm(x)
        return self.fc(out[:, -1, :])


class BiLSTMClassifier(nn.Module):
    """The last states of both directions, as text classifiers concatenate them."""

    def __init__(self, vocabulary=40, dim=12, hidden=16):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, dim)
        self.lstm = nn.LSTM(dim, hidden, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(hidden * 2, 1)

    def forward(self, text):
        embedded = self.dropout(self.embedding(text))
        _output, (hidden, _cell) = self.lstm(embedded)
        hidden = self.dropout(torch.cat((hidden[-2, :, :], hidden[-1, :, :]), dim=1))
        return self.fc(hidden)


class BiLSTMTagger(nn.Module):
    def __init__(self, vocabulary=40, dim=12, hidden=12, tags=5):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, dim)
        self.lstm = nn.LSTM(
            dim, hidden, num_layers=2, bidirectional=True, batch_first=True
        )
        self.hidden2tag = nn.Linear(2 * hidden, tags)

    def forward(self, sentence):
        lstm_out, _ = self.lstm(self.word_embeddings(sentence))
        return self.hidden2tag(lstm_out)


class GRUClassifier(nn.Module):
    """Two layers over a series of sensors."""

    def __init__(self, features=6, hidden=20, classes=5):
        super().__init__()
        self.gru = nn.GRU(features, hidden, num_layers=2, batch_first=True)
        self.fc = nn.Linear(hidden, classes)

    def forward(self, x):
        _, h = self.gru(x)
        return self.fc(h[-1])


class TimeMajorRNN(nn.Module):
    """A plain RNN of ReLUs whose time axis comes first, as is torch's default."""

    def __init__(self, features=6, hidden=16):
        super().__init__()
        self.rnn = nn.RNN(features, hidden, nonlinearity="relu")
        self.fc = nn.Linear(hidden, 1)

    def forward(self, x):
        out, _ = self.rnn(x.transpose(0, 1))
        return self.fc(out[-1])


class CharRNN(nn.Module):
    def __init__(self, characters=30, hidden=24):
        super().__init__()
        self.encoder = nn.Embedding(characters, hidden)
        self.rnn = nn.LSTM(hidden, hidden, num_layers=2, batch_first=True, dropout=0.2)
        self.drop = nn.Dropout(0.2)
        self.decoder = nn.Linear(hidden, characters)
        self.decoder.weight = self.encoder.weight  # tied

    def forward(self, x):
        output, _ = self.rnn(self.encoder(x))
        return self.decoder(self.drop(output))


class Seq2Seq(nn.Module):
    """An encoder's last state begins the decoder, which is fed the true tokens."""

    def __init__(self, source=30, target=25, dim=12, hidden=20):
        super().__init__()
        self.source = nn.Embedding(source, dim)
        self.target = nn.Embedding(target, dim)
        self.encoder = nn.GRU(dim, hidden, batch_first=True)
        self.decoder = nn.GRU(dim, hidden, batch_first=True)
        self.out = nn.Linear(hidden, target)

    def forward(self, source, target):
        _, context = self.encoder(self.source(source))
        output, _ = self.decoder(self.target(target), context)
        return self.out(output)


class LuongAttention(nn.Module):
    """Seq2seq whose decoder looks back at every step of the encoder."""

    def __init__(self, vocabulary=30, dim=12, hidden=16):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, dim)
        self.encoder = nn.GRU(dim, hidden, batch_first=True)
        self.decoder = nn.GRU(dim, hidden, batch_first=True)
        self.concat = nn.Linear(2 * hidden, hidden)
        self.out = nn.Linear(hidden, vocabulary)

    def forward(self, source, target):
        encoded, hidden = self.encoder(self.embedding(source))
        decoded, _ = self.decoder(self.embedding(target), hidden)
        scores = torch.bmm(decoded, encoded.transpose(1, 2))
        weights = F.softmax(scores, dim=2)
        context = torch.bmm(weights, encoded)
        joined = torch.cat((decoded, context), dim=2)
        return self.out(torch.tanh(self.concat(joined)))


class LSTMAutoencoder(nn.Module):
    """The code is repeated for each step of the decoder."""

    def __init__(self, features=4, hidden=12, steps=10):
        super().__init__()
        self.steps = steps
        self.encoder = nn.LSTM(features, hidden, batch_first=True)
        self.decoder = nn.LSTM(hidden, hidden, batch_first=True)
        self.output = nn.Linear(hidden, features)

    def forward(self, x):
        _, (code, _) = self.encoder(x)
        code = code.squeeze(0).unsqueeze(1).repeat(1, self.steps, 1)
        decoded, _ = self.decoder(code)
        return self.output(decoded)


class CRNN(nn.Module):
    """Columns of a picture as the steps of a sequence: text recognition."""

    def __init__(self, classes=12):
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 8, 3, 1, 1),
            nn.ReLU(True),
            nn.MaxPool2d(2, 2),
            nn.Conv2d(8, 16, 3, 1, 1),
            nn.BatchNorm2d(16),
            nn.ReLU(True),
            nn.MaxPool2d((2, 1), (2, 1)),
        )
        self.rnn = nn.GRU(16 * 2, 16, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(32, classes)

    def forward(self, x):
        conv = self.cnn(x)
        b, c, h, w = conv.size()
        conv = conv.permute(0, 3, 1, 2).reshape(b, w, c * h)
        out, _ = self.rnn(conv)
        return self.fc(out)


class AttentivePooling(nn.Module):
    """A GRU whose steps are weighted by a learned query."""

    def __init__(self, features=6, hidden=16, classes=4):
        super().__init__()
        self.gru = nn.GRU(features, hidden, batch_first=True, bidirectional=True)
        self.attention = nn.Linear(2 * hidden, 1)
        self.fc = nn.Linear(2 * hidden, classes)

    def forward(self, x):
        out, _ = self.gru(x)
        weights = torch.softmax(self.attention(torch.tanh(out)), dim=1)
        return self.fc((weights * out).sum(dim=1))


class CellLoop(nn.Module):
    """A cell that is called step by step, as people unroll by hand."""

    def __init__(self, features=5, hidden=12):
        super().__init__()
        self.hidden = hidden
        self.cell = nn.GRUCell(features, hidden)
        self.fc = nn.Linear(hidden, 2)

    def forward(self, x):
        h = self.cell(x[:, 0])
        for t in range(1, x.size(1)):
            h = self.cell(x[:, t], h)
        return self.fc(h)


def tokens(batch, steps, vocabulary):
    ids = torch.randint(1, vocabulary, (batch, steps))
    ids[0, 0], ids[-1, -1] = 0, vocabulary - 1
    return ids


@model("lstm_classifier")
def lstm_classifier():
    return LSTMClassifier(), (tokens(4, 9, 40),), "cross_softmax"


@model("bilstm_classifier")
def bilstm_classifier():
    return BiLSTMClassifier(), (tokens(4, 9, 40),), "cross_sigmoid"


@model("bilstm_tagger")
def bilstm_tagger():
    return BiLSTMTagger(), (tokens(4, 7, 40),), TOKENS


@model("gru_classifier")
def gru_classifier():
    return GRUClassifier(), (torch.randn(4, 12, 6),), "cross_softmax"


@model("rnn_time_major")
def rnn_time_major():
    return TimeMajorRNN(), (torch.randn(4, 8, 6),), "mse"


@model("char_rnn")
def char_rnn():
    return CharRNN(), (tokens(3, 10, 30),), TOKENS


@model("seq2seq")
def seq2seq():
    return Seq2Seq(), (tokens(3, 8, 30), tokens(3, 6, 25)), TOKENS


@model("seq2seq_luong")
def seq2seq_luong():
    return LuongAttention(), (tokens(3, 8, 30), tokens(3, 6, 30)), TOKENS


@model("lstm_autoencoder")
def lstm_autoencoder():
    return LSTMAutoencoder(), (torch.randn(3, 10, 4),), "mse"


@model("crnn")
def crnn():
    return CRNN(), (torch.randn(3, 1, 8, 16),), TOKENS


@model("gru_attentive_pooling")
def gru_attentive_pooling():
    return AttentivePooling(), (torch.randn(3, 8, 6),), "cross_softmax"


@model("gru_cell_loop")
def gru_cell_loop():
    return CellLoop(), (torch.randn(4, 5, 5),), "cross_softmax"
